package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Devices of one user are independent leaves in rooms, under one pseudonym per
// room (SPEC.md R-119). They share connections, pools and the list of rooms over
// a room of their own, which is as confidential as any other.
//
//	new device                          a device of the user
//	BeginDevice ──── request ──────────▶ AddDevice (registers it, makes a link)
//	JoinDevice  ◀─── response, sealed ──
//	      └── joins the room of the devices, learns connections and rooms
//
// Request and response are carried by hand; the response is sealed to the
// request's key, and of no use to others.

const (
	deviceRequestPrefix  = "mmr-device-request:"
	deviceResponsePrefix = "mmr-device-response:"
	labelDevice          = "mmr device response"
	deviceLinkFor        = time.Hour
	maxDeviceBlob        = 32768
)

// BeginDevice makes the keys of a further device and returns its request, which
// is not secret. The store keeps what JoinDevice needs.
func BeginDevice(store Store, device string) (string, error) {
	m, err := store.Load()
	if err != nil {
		return "", err
	}
	var st accountState
	if _, ok := m[recAccount]; ok {
		if err := load(m, recAccount, &st); err != nil {
			return "", err
		}
		if len(st.Credential) > 0 {
			return "", ErrExists
		}
	}
	if st.Device != device || len(st.DeviceKey) == 0 {
		st = accountState{Version: stateVersion, Device: device, SlotID: random(16)}
		if err := st.makeKeys(); err != nil {
			return "", err
		}
		key, err := primitive.GenerateKEMKey(primitive.X25519)
		if err != nil {
			return "", err
		}
		st.DeviceKey = stored(key.Raw())
		b := make(batch)
		if err := b.put(recAccount, st); err != nil {
			return "", err
		}
		if err := store.Write(b); err != nil {
			return "", err
		}
	}
	raw, err := st.deviceRequest()
	if err != nil {
		return "", err
	}
	return deviceRequestPrefix + b64(raw), nil
}

// deviceRequest is struct { opaque device<V>; opaque credential_csr<V>; opaque
// session_csr<V>; opaque key<V>; }.
func (st *accountState) deviceRequest() ([]byte, error) {
	raw, err := secretOf(st.DeviceKey)
	if err != nil {
		return nil, err
	}
	key, err := primitive.ParseKEMKey(primitive.X25519, raw)
	if err != nil {
		return nil, err
	}
	b := codec.AppendVector(nil, st.Device)
	b = codec.AppendVector(b, st.CredentialCSR)
	b = codec.AppendVector(b, st.SessionCSR)
	return codec.AppendVector(b, key.Public().Bytes()), nil
}

func openBlob(s, prefix string) ([]byte, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(s), prefix)
	if !ok || len(body) > maxDeviceBlob {
		return nil, fmt.Errorf("client: not a text that begins with %s", prefix)
	}
	return base64.RawURLEncoding.DecodeString(body)
}

// AddDevice registers a further device of this user from its request, and
// returns the response for it. The room of the devices is made at hub when the
// first one is added. Whoever gets a device in gets everything: take requests
// only from the device itself.
func (c *Client) AddDevice(ctx context.Context, request, hub string) (string, error) {
	raw, err := openBlob(request, deviceRequestPrefix)
	if err != nil {
		return "", err
	}
	d := codec.NewReader(raw)
	device := string(d.Vector(64))
	credential, session := d.Vector(4096), d.Vector(4096)
	public := d.Vector(64)
	if d.Done() != nil {
		return "", errors.New("client: not a device's request")
	}
	key, err := primitive.ParseKEMPublicKey(primitive.X25519, public)
	if err != nil {
		return "", errors.New("client: not a device's request")
	}
	c.mu.Lock()
	lost := slices.Contains(c.account.Ousted, device)
	c.mu.Unlock()
	if lost {
		return "", errors.New("client: a device of this name was lost; give the new one another name")
	}
	res, err := retry(ctx, c.opts.retryFor, func() (*relayv1.RegisterResponse, error) {
		return relayv1.NewAccountServiceClient(c.t.session).Register(ctx, &relayv1.RegisterRequest{
			User: c.account.User, Client: device, CredentialCsr: credential, SessionCsr: session,
		})
	})
	if err != nil {
		return "", fmt.Errorf("registering the device: %w", err)
	}
	room, err := c.deviceRoom(ctx, hub)
	if err != nil {
		return "", fmt.Errorf("making the room of the devices: %w", err)
	}
	link, err := c.CreateLink(ctx, room, deviceLinkFor)
	if err != nil {
		return "", err
	}
	st := deviceResponse{
		User: c.account.User, Domain: c.account.Domain, Relay: c.account.Relay, Partner: c.account.Partner, PartnerDomain: c.account.PartnerDomain,
		Credential: res.GetCredential(), Session: res.GetSession(), Link: link,
	}
	sealed, err := key.SealWithLabel(labelDevice, raw, st.marshal())
	if err != nil {
		return "", err
	}
	return deviceResponsePrefix + b64(sealed.Append(nil)), nil
}

// deviceResponse is what a new device gets.
type deviceResponse struct {
	User, Domain, Relay, Partner, PartnerDomain string
	Credential, Session                         [][]byte
	Link                                        string
}

func (x *deviceResponse) marshal() []byte {
	var b []byte
	for _, s := range []string{x.User, x.Domain, x.Relay, x.Partner, x.PartnerDomain, x.Link} {
		b = codec.AppendVector(b, s)
	}
	for _, chain := range [][][]byte{x.Credential, x.Session} {
		b = codec.AppendVectorFunc(b, func(b []byte) []byte {
			for _, cert := range chain {
				b = codec.AppendVector(b, cert)
			}
			return b
		})
	}
	return b
}

func parseDeviceResponse(raw []byte) (*deviceResponse, error) {
	d := codec.NewReader(raw)
	x := new(deviceResponse)
	for _, s := range []*string{&x.User, &x.Domain, &x.Relay, &x.Partner, &x.PartnerDomain, &x.Link} {
		*s = string(d.Vector(maxDeviceBlob))
	}
	for _, chain := range []*[][]byte{&x.Credential, &x.Session} {
		sub := d.Sub(maxDeviceBlob)
		for !sub.Empty() {
			*chain = append(*chain, sub.Vector(maxDeviceBlob))
		}
		d.Join(sub)
	}
	return x, d.Done()
}

// JoinDevice completes a device from the response to its request. It learns
// connections and rooms from the other devices while they listen.
func JoinDevice(ctx context.Context, store Store, response string, trust *Trust, opts ...Option) (*Client, error) {
	m, err := store.Load()
	if err != nil {
		return nil, err
	}
	var st accountState
	if err := load(m, recAccount, &st); err != nil || len(st.DeviceKey) == 0 {
		return nil, errors.New("client: this device has made no request")
	}
	x, err := st.openResponse(response)
	if err != nil {
		return nil, err
	}
	st.User, st.Domain, st.Relay, st.Partner, st.PartnerDomain = x.User, x.Domain, x.Relay, x.Partner, x.PartnerDomain
	st.Credential, st.Session = x.Credential, x.Session
	// The requests stay: the response opens with them, should this be repeated.
	st.Published = true // the user's connection packages come from the other devices
	b := make(batch)
	if err := b.put(recAccount, st); err != nil {
		return nil, err
	}
	if err := store.Write(b); err != nil {
		return nil, err
	}
	c, err := Open(store, trust, opts...)
	if err != nil {
		return nil, err
	}
	if err := c.enterDeviceRoom(ctx, x.Link); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (st *accountState) openResponse(response string) (*deviceResponse, error) {
	sealed, err := openBlob(response, deviceResponsePrefix)
	if err != nil {
		return nil, err
	}
	d := codec.NewReader(sealed)
	ct := primitive.ReadHPKECiphertext(d, maxDeviceBlob)
	raw, err := secretOf(st.DeviceKey)
	if err != nil || d.Done() != nil {
		return nil, errors.New("client: not a response to this device")
	}
	key, err := primitive.ParseKEMKey(primitive.X25519, raw)
	if err != nil {
		return nil, err
	}
	request, err := st.deviceRequest()
	if err != nil {
		return nil, err
	}
	pt, err := key.OpenWithLabel(labelDevice, request, ct)
	if err != nil {
		return nil, errors.New("client: not a response to this device")
	}
	return parseDeviceResponse(pt)
}

// enterDeviceRoom joins the room of the user's devices, if everybody in it is
// this user.
func (c *Client) enterDeviceRoom(ctx context.Context, uri string) error {
	link, err := pseudonym.ParseJoinLink(uri)
	if err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[b64(link.GroupID)]
	if r != nil && r.st.Pending != nil { // of an earlier process
		if err := c.settle(ctx, r); err != nil && !refused(err) {
			return fmt.Errorf("joining the other devices: %w", err)
		}
		r = c.rooms[b64(link.GroupID)]
	}
	if r == nil {
		if r, err = c.enter(ctx, entry{
			hub: link.HubDomain, groupID: link.GroupID, linkID: link.LinkID, seed: link.Seed, wrapper: link.WrapperKey, device: true,
			trust: func(_ string, names map[uint32]string) bool {
				for _, n := range names {
					if n != c.self.String() {
						return false
					}
				}
				return len(names) > 0
			},
		}); err != nil {
			return fmt.Errorf("joining the other devices: %w", err)
		}
	}
	c.account.DeviceRoom, c.account.DeviceKey, c.account.CredentialCSR, c.account.SessionCSR = r.st.GroupID, nil, nil, nil
	b := make(batch)
	if err := b.put(recAccount, c.account); err != nil {
		return err
	}
	return c.store.Write(b)
}

// deviceRoom returns the room of the devices, made at hub if there is none.
func (c *Client) deviceRoom(ctx context.Context, hub string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.devices(); r != nil {
		return r.st.uri(), nil
	}
	if hub == "" {
		return "", errors.New("client: name a hub for the room of the devices")
	}
	r, err := c.create(ctx, hub, "", func(p *pseudonym.Room, _ []byte) { p.JoinRule = pseudonym.JoinByLink })
	if err != nil {
		return "", err
	}
	r.st.Device = true // if this is not written, it is a room like others, and the next attempt makes another
	c.account.DeviceRoom = r.st.GroupID
	b := make(batch)
	if err := errors.Join(b.put(recAccount, c.account), r.save(b, false)); err != nil {
		return "", err
	}
	return r.st.uri(), c.store.Write(b)
}

// devices is the room of the devices, nil if there is none. mu is held.
func (c *Client) devices() *room {
	r := c.rooms[b64(c.account.DeviceRoom)]
	if r == nil || len(c.account.DeviceRoom) == 0 || r.st.Removed || r.st.Forked || r.st.Locked || r.st.Suspect || r.st.Stuck != nil {
		return nil
	}
	return r
}

// Devices lists the devices of this user that are in its room of devices.
func (c *Client) Devices() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.self.String()
	r := c.devices()
	if r == nil {
		return nil
	}
	var out []string
	for _, l := range c.resolve(r) {
		if l.verified && l.real.User.String() == own {
			out = append(out, l.real.Client.String())
		}
	}
	return out
}
