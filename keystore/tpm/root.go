package tpm

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// root is the storage root key of a TPM, loaded.
type root struct {
	tpm2.NamedHandle
	public tpm2.TPMTPublic
}

// openRoot has the TPM make its storage root key, which is always the same until the TPM is cleared. The caller flushes it.
func openRoot(t transport.TPM) (*root, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("make storage root key: %w", err)
	}
	r := &root{NamedHandle: tpm2.NamedHandle{Handle: made.ObjectHandle}}
	public, err := made.OutPublic.Contents()
	if err != nil {
		r.flush(t)
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	name, err := tpm2.ObjectName(public) // not the one in the reply: it must be of the key to which sessions are salted
	if err != nil {
		r.flush(t)
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	r.Name, r.public = *name, *public
	return r, nil
}

// flush ends what is loaded: a TPM has room for three objects. An error would only say that it is gone already.
func (r *root) flush(t transport.TPM) { flush(t, r.Handle) }

func flush(t transport.TPM, h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(t)
}

// key is how slots call the storage root key: by its name in the TPM's sense, the hash of its public part.
func (r *root) key() string { return "tpm:srk=" + hex.EncodeToString(r.Name.Buffer) }

// toTPM and fromTPM are the options of sessions in which nobody between here and the TPM alters anything, or reads the
// first parameter of a command, or of a reply.
func (r *root) toTPM() []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(r.Handle, r.public), tpm2.AESEncryption(128, tpm2.EncryptIn)}
}

func (r *root) fromTPM() []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(r.Handle, r.public), tpm2.AESEncryption(128, tpm2.EncryptOut)}
}

const nonceSize = 16

// seal seals data under the storage root key and to the values that the PCRs have now.
func (r *root) seal(t transport.TPM, data []byte, pcrs PCRs) (*blob, error) {
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true, UserWithAuth: pcrs == 0},
	}
	if pcrs != 0 {
		digest, err := policyOf(t, pcrs)
		if err != nil {
			return nil, err
		}
		template.AuthPolicy = *digest
	}
	made, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: r.Handle, Name: r.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, r.toTPM()...)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data}),
		}},
		InPublic: tpm2.New2B(template),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &blob{pcrs: pcrs, private: made.OutPrivate.Buffer, public: made.OutPublic.Bytes()}, nil
}

// policyOf returns the digest of the policy that the PCRs have the values that they have now.
func policyOf(t transport.TPM, pcrs PCRs) (digest *tpm2.TPM2BDigest, err error) {
	trial, end, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, tpm2.Trial())
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer func() { err = errors.Join(err, end()) }()
	if _, err := (tpm2.PolicyPCR{PolicySession: trial.Handle(), Pcrs: pcrs.selection()}).Execute(t); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	got, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return &got.PolicyDigest, nil
}

// unseal returns what was sealed.
func (r *root) unseal(t transport.TPM, b *blob) ([]byte, error) {
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: r.Handle, Name: r.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, r.toTPM()...)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.public),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer flush(t, loaded.ObjectHandle)
	auth := tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, r.fromTPM()...)
	if b.pcrs != 0 {
		auth = tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(t transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: b.pcrs.selection()}.Execute(t)
			return err
		}, r.fromTPM()...)
	}
	got, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth}}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return got.OutData.Buffer, nil
}
