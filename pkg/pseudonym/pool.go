package pseudonym

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// PoolID returns the id under which a provider keeps the KeyPackage pool of a
// connection (SPEC.md R-42). The provider stores it and not the token.
func PoolID(connectionToken primitive.Secret) [32]byte {
	return primitive.Hash([]byte("mmr-r/1 pool"), connectionToken.Bytes())
}

// UserPseudonym returns user_pseudonym(j) of a pool: siblings who share the
// seed fill sets of KeyPackages without asking each other or the server
// (SPEC.md R-42). It fails with mmr/pseudonym-shape if host is no domain.
func UserPseudonym(seed primitive.Secret, host string, j uint64) (ID, error) {
	b := primitive.ExpandWithLabel(seed, "UserPseudonym", binary.BigEndian.AppendUint64(nil, j), 16)
	return idOf(host, User, [16]byte(b))
}
