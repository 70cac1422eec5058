package tpm

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// blob is what a slot keeps: version (1 byte, 1), PCRs (4 bytes, bit n for PCR n), then the private and the public part
// of the sealed object (TPM 2.0 Library, part 2: TPM2B_PRIVATE, and TPMT_PUBLIC in the same way), each with its length
// in 2 bytes before it. Integers are big-endian, as the TPM's own.
type blob struct {
	pcrs            PCRs
	private, public []byte
}

const (
	blobVersion = 1
	blobHead    = 5
)

func (b *blob) encode() []byte {
	out := binary.BigEndian.AppendUint32([]byte{blobVersion}, uint32(b.pcrs))
	for _, part := range [][]byte{b.private, b.public} {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(part))), part...)
	}
	return out
}

func decodeBlob(data []byte) (*blob, error) {
	if len(data) < blobHead || data[0] != blobVersion {
		return nil, errDamaged
	}
	b := &blob{pcrs: PCRs(binary.BigEndian.Uint32(data[1:]))}
	data = data[blobHead:]
	for _, part := range []*[]byte{&b.private, &b.public} {
		if len(data) < 2 {
			return nil, errDamaged
		}
		n := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; n == 0 || n > len(data) {
			return nil, errDamaged
		}
		*part, data = data[:n], data[n:]
	}
	if len(data) != 0 || b.pcrs >= 1<<pcrCount {
		return nil, errDamaged
	}
	return b, nil
}

// pcrCount is how many PCRs a PC's TPM has.
const pcrCount = 24

// PCRs is a set of registers of the TPM's SHA-256 bank, bit n for PCR n.
type PCRs uint32

// Parse returns the PCRs in a URI.
func Parse(uri string) (PCRs, error) {
	options, ok := strings.CutPrefix(uri, Scheme)
	if !ok {
		return 0, fmt.Errorf("%q does not begin with %s", uri, Scheme)
	}
	if options == "" {
		return 0, nil
	}
	list, ok := strings.CutPrefix(options, "pcrs=")
	if !ok {
		return 0, fmt.Errorf("%q: tpm: has one option, as in tpm:pcrs=0,7", uri)
	}
	var set PCRs
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil || n >= pcrCount {
			return 0, fmt.Errorf("%q: %q is no PCR: they have the numbers 0 to %d", uri, text, pcrCount-1)
		}
		set |= 1 << n
	}
	return set, nil
}

// String returns the numbers of the PCRs, as a URI has them.
func (p PCRs) String() string {
	var all []string
	for _, n := range p.numbers() {
		all = append(all, strconv.Itoa(int(n)))
	}
	return strings.Join(all, ",")
}

func (p PCRs) numbers() []uint {
	var all []uint
	for n := range uint(pcrCount) {
		if p&(1<<n) != 0 {
			all = append(all, n)
		}
	}
	return all
}

func (p PCRs) selection() tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(p.numbers()...)},
	}}
}
