// The path lies below pkg/mls, so that the tests may import its internal tree.
module github.com/mmrelay/mmrelay/pkg/mls/ciscomls

go 1.26.0

require (
	github.com/cisco/go-mls v0.0.0-20210331162924-158a3829b839
	github.com/cisco/go-tls-syntax v0.0.0-20200615170901-cc95af012391
	github.com/mmrelay/mmrelay v0.0.0
)

require (
	git.schwanenlied.me/yawning/x448.git v0.0.0-20170617130356-01b048fb03d6 // indirect
	github.com/cisco/go-hpke v0.0.0-20200603153819-0a6c8374cd9a // indirect
	github.com/cloudflare/circl v1.6.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	git.schwanenlied.me/yawning/x448.git => ./x448
	github.com/mmrelay/mmrelay => ../..
)
