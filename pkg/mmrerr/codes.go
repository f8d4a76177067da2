package mmrerr

// The codes of SPEC.md §19.
//
//nolint:errname // the names are the specification's, and they are values on the wire first
const (
	OK Code = 0

	Malformed            Code = 1
	Stale                Code = 2
	Replay               Code = 3
	Audience             Code = 4
	PaddingBucket        Code = 5
	TooLarge             Code = 6
	RateLimited          Code = 7
	Unavailable          Code = 8
	TokenRequired        Code = 10
	TokenInvalid         Code = 11
	TokenSpent           Code = 12
	NoRoom               Code = 20
	RoomExists           Code = 21
	RoomFrozen           Code = 22
	JoinNotAllowed       Code = 23
	NotConnectionRoom    Code = 24
	EARStale             Code = 25
	EARKey               Code = 26
	WrongEpoch           Code = 27
	EpochTooOld          Code = 28
	EpochExhausted       Code = 29
	WireFormat           Code = 30
	Signature            Code = 31
	AAD                  Code = 32
	ProposalType         Code = 33
	ProposalList         Code = 34
	LeaveMissing         Code = 35
	Leaving              Code = 36
	Role                 Code = 37
	PolicyChange         Code = 38
	Tree                 Code = 39
	Welcome              Code = 40
	GroupInfo            Code = 41
	Limit                Code = 42
	LogTruncated         Code = 45
	CredentialType       Code = 46
	PseudonymShape       Code = 47
	KeyMismatch          Code = 48
	PseudonymReused      Code = 50
	ParticipantMismatch  Code = 51
	LinkCiphertextLength Code = 52
	Uniformity           Code = 53
	QueueMissing         Code = 54
	QueueDomain          Code = 55
	LinkKeysCount        Code = 60
	LinkKeyMissing       Code = 61
	LinkKeyForbidden     Code = 62
	LinkKeyLength        Code = 63
	WrapperKeyLeak       Code = 64
	WrapMissing          Code = 65
	WrapStructure        Code = 66
	WrapStale            Code = 67
	NoConsent            Code = 70
	PackageInvalid       Code = 71
	PoolFull             Code = 72
)

var names = map[Code]string{
	OK:                   "mmr/ok",
	Malformed:            "mmr/malformed",
	Stale:                "mmr/stale",
	Replay:               "mmr/replay",
	Audience:             "mmr/audience",
	PaddingBucket:        "mmr/padding-bucket",
	TooLarge:             "mmr/too-large",
	RateLimited:          "mmr/rate-limited",
	Unavailable:          "mmr/unavailable",
	TokenRequired:        "mmr/token-required",
	TokenInvalid:         "mmr/token-invalid",
	TokenSpent:           "mmr/token-spent",
	NoRoom:               "mmr/no-room",
	RoomExists:           "mmr/room-exists",
	RoomFrozen:           "mmr/room-frozen",
	JoinNotAllowed:       "mmr/join-not-allowed",
	NotConnectionRoom:    "mmr/not-connection-room",
	EARStale:             "mmr/ear-stale",
	EARKey:               "mmr/ear-key",
	WrongEpoch:           "mmr/wrong-epoch",
	EpochTooOld:          "mmr/epoch-too-old",
	EpochExhausted:       "mmr/epoch-exhausted",
	WireFormat:           "mmr/wire-format",
	Signature:            "mmr/signature",
	AAD:                  "mmr/aad",
	ProposalType:         "mmr/proposal-type",
	ProposalList:         "mmr/proposal-list",
	LeaveMissing:         "mmr/leave-missing",
	Leaving:              "mmr/leaving",
	Role:                 "mmr/role",
	PolicyChange:         "mmr/policy-change",
	Tree:                 "mmr/tree",
	Welcome:              "mmr/welcome",
	GroupInfo:            "mmr/group-info",
	Limit:                "mmr/limit",
	LogTruncated:         "mmr/log-truncated",
	CredentialType:       "mmr/credential-type",
	PseudonymShape:       "mmr/pseudonym-shape",
	KeyMismatch:          "mmr/key-mismatch",
	PseudonymReused:      "mmr/pseudonym-reused",
	ParticipantMismatch:  "mmr/participant-mismatch",
	LinkCiphertextLength: "mmr/link-ciphertext-length",
	Uniformity:           "mmr/uniformity",
	QueueMissing:         "mmr/queue-missing",
	QueueDomain:          "mmr/queue-domain",
	LinkKeysCount:        "mmr/link-keys-count",
	LinkKeyMissing:       "mmr/link-key-missing",
	LinkKeyForbidden:     "mmr/link-key-forbidden",
	LinkKeyLength:        "mmr/link-key-length",
	WrapperKeyLeak:       "mmr/wrapper-key-leak",
	WrapMissing:          "mmr/wrap-missing",
	WrapStructure:        "mmr/wrap-structure",
	WrapStale:            "mmr/wrap-stale",
	NoConsent:            "mmr/no-consent",
	PackageInvalid:       "mmr/package-invalid",
	PoolFull:             "mmr/pool-full",
}
