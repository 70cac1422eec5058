// Package kms is a key management service in one directory, with the operations and the rules of AWS KMS
// (https://docs.aws.amazon.com/kms/latest/APIReference/), for symmetric keys.
//
// A [Service] answers calls: [Service.Do] decodes a request, decides whether its caller may, does it, and has all that
// in the audit log before it returns. Package kms/server brings the calls in.
//
// Everything but ciphertexts lies in memory and is read from the store (kms/store) once. Backing keys lie in locked
// memory. A change is first durable in the store, then seen by other calls, then in the log, then answered.
package kms
