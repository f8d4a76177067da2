package seal

import "strings"

// maxDomain is the longest domain name in bytes (SPEC.md R-2).
const maxDomain = 253

// ValidDomain reports whether s is a domain as SPEC.md R-2 wants it: lower-case
// A-labels, at least one dot, no port, no trailing dot, at most 253 bytes.
func ValidDomain(s string) bool {
	if len(s) > maxDomain || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// HubAudience is the audience of requests to the hub of a domain (SPEC.md R-63).
func HubAudience(domain string) string { return "hub:" + domain }

// ProviderAudience is the audience of requests to the provider of a domain.
func ProviderAudience(domain string) string { return "provider:" + domain }

// RelayAudience is the audience of tokens and proofs for the relay of a domain
// (SPEC.md R-80).
func RelayAudience(domain string) string { return "relay:" + domain }

// QueueAudience is the audience of the keys that open sealed queue ids, which
// providers publish like gateway keys (SPEC.md R-61).
func QueueAudience(domain string) string { return "queue:" + domain }

// ValidAudience reports whether s is one of the four audience forms with a
// valid domain.
func ValidAudience(s string) bool {
	role, domain, ok := strings.Cut(s, ":")
	if !ok || !ValidDomain(domain) {
		return false
	}
	switch role {
	case "hub", "provider", "relay", "queue":
		return true
	}
	return false
}
