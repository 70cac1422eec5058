package blob

// golden is the blob of the worked example: version, key id, backing-key id, salt, ciphertext and tag.
const golden = `
	016f1c0f0e3a5b4c7d8e9fa0b1c2d3e4f500112233445566778899aabbccddee
	ff404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e
	5fc93a1e81d8a0d029a272105ac96cab3f401595f660
`
