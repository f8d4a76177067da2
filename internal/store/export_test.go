package store

import "github.com/redis/go-redis/v9"

// ParseRedisURL exposes what a URL says.
func ParseRedisURL(s string) (o redis.UniversalOptions, prefix string, wait int, err error) {
	u, err := parseRedisURL(s)
	if err != nil {
		return o, "", 0, err
	}
	return u.options, u.prefix, u.wait, nil
}
