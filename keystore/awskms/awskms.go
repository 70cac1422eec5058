// Package awskms has master keys in AWS KMS, or in a service that speaks its protocol, such as the embedded KMS.
//
// W is a data key of 32 bytes that KMS makes (GenerateDataKey); the slot keeps what KMS returns with it, and the key's ARN.
// The slot's context is KMS's encryption context, which it binds to the data key and writes to its log.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"envfs/blockcrypt"
	"envfs/keystore"
)

const (
	// Kind is the kind of slots whose W this package makes.
	Kind = "awskms"
	// Scheme begins the URIs of these keys: awskms://alias/NAME, awskms://KEY-ID, awskms://arn:aws:kms:...
	Scheme = "awskms://"

	// patience bounds one call, with all its retries.
	patience = 30 * time.Second
	attempts = 3
)

// Provider asks one KMS. It is safe for concurrent use.
type Provider struct {
	client *kms.Client
	region string
	key    string // as the user calls it; empty: only slots that are there are opened
}

var _ keystore.Wrapper = (*Provider)(nil)

// New returns a provider for the key that name names: its id, its ARN, alias/NAME or the alias's ARN. Without a name the
// provider only opens slots that are there. Region, endpoint, CA and credentials come from where AWS's tools have them:
// AWS_REGION, AWS_ENDPOINT_URL_KMS, AWS_CA_BUNDLE, AWS_ACCESS_KEY_ID, profiles, roles. An ARN's region counts for
// itself. No request is made yet, except to get credentials if that takes one.
func New(ctx context.Context, name string) (*Provider, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(attempts))
	if err != nil {
		return nil, fmt.Errorf("awskms: configuration: %w", err)
	}
	if a, err := arn.Parse(name); err == nil {
		cfg.Region = a.Region
	}
	if cfg.Region == "" {
		return nil, errors.New("awskms: no region is known: set AWS_REGION, or region in ~/.aws/config, or name the key by its ARN")
	}
	if cfg.HTTPClient == nil { // there is one if AWS_CA_BUNDLE is set
		cfg.HTTPClient = awshttp.NewBuildableClient()
	}
	cfg.HTTPClient = bounded{cfg.HTTPClient}
	p := &Provider{client: kms.NewFromConfig(cfg), region: cfg.Region, key: name}
	if err := private(p.client.Options().BaseEndpoint); err != nil {
		return nil, fmt.Errorf("awskms: %w", err)
	}
	return p, nil
}

// private refuses an endpoint to which keys would go in clear.
func private(endpoint *string) error {
	if endpoint == nil {
		return nil // AWS's own
	}
	u, err := url.Parse(*endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("AWS_ENDPOINT_URL_KMS (or endpoint_url) is not https://HOST:PORT")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("AWS_ENDPOINT_URL_KMS: http://%s would send keys in clear: use https", u.Host)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Parse returns the name in a URI.
func Parse(uri string) (name string, err error) {
	name, ok := strings.CutPrefix(uri, Scheme)
	switch {
	case !ok:
		return "", fmt.Errorf("%q does not begin with %s", uri, Scheme)
	case strings.HasPrefix(name, "arn:"):
		a, err := arn.Parse(name)
		if err != nil || a.Service != "kms" || a.Region == "" {
			return "", fmt.Errorf("%q: %q is not the ARN of a KMS key: awskms://arn:aws:kms:REGION:ACCOUNT:key/ID", uri, name)
		}
	case !validName(name):
		return "", fmt.Errorf("%q: %q is neither a key's id nor alias/NAME: awskms://alias/photos", uri, name)
	}
	return name, nil
}

// validName tells whether s has only the characters of ids and aliases.
func validName(s string) bool {
	for _, c := range strings.TrimPrefix(s, "alias/") {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_/", c) {
			return false
		}
	}
	return s != "" && s != "alias/" && len(s) <= 256
}

// Kind implements keystore.Provider.
func (p *Provider) Kind() string { return Kind }

// Wrap implements keystore.Wrapper.
func (p *Provider) Wrap(ctx context.Context, s keystore.SlotInfo) ([]byte, keystore.ProviderData, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.key == "" {
		return nil, keystore.ProviderData{}, errors.New("awskms: no key is named")
	}
	out, err := p.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &p.key, NumberOfBytes: aws.Int32(blockcrypt.KeySize), EncryptionContext: s.Context()})
	if err != nil {
		return nil, keystore.ProviderData{}, p.failed(ctx, p.key, err)
	}
	if len(out.Plaintext) != blockcrypt.KeySize || len(out.CiphertextBlob) == 0 || aws.ToString(out.KeyId) == "" {
		clear(out.Plaintext)
		return nil, keystore.ProviderData{}, fmt.Errorf("awskms: key %s: %w", p.key, errReply)
	}
	return out.Plaintext, keystore.ProviderData{Key: *out.KeyId, Wrapped: out.CiphertextBlob}, nil
}

// Secret implements keystore.Provider.
func (p *Provider) Secret(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.here(s.Provider.Key); err != nil {
		return nil, err
	}
	out, err := p.client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.Provider.Wrapped, KeyId: &s.Provider.Key, EncryptionContext: s.Context()})
	if err != nil {
		return nil, p.failed(ctx, s.Provider.Key, err)
	}
	return out.Plaintext, nil
}

// Rewrap implements keystore.Wrapper: KMS decrypts and encrypts by itself (ReEncrypt).
func (p *Provider) Rewrap(ctx context.Context, s keystore.SlotInfo) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.here(s.Provider.Key); err != nil {
		return nil, err
	}
	out, err := p.client.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: s.Provider.Wrapped,
		SourceKeyId: &s.Provider.Key, SourceEncryptionContext: s.Context(),
		DestinationKeyId: &s.Provider.Key, DestinationEncryptionContext: s.Context()})
	if err != nil {
		return nil, p.failed(ctx, s.Provider.Key, err)
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, fmt.Errorf("awskms: key %s: %w", s.Provider.Key, errReply)
	}
	return out.CiphertextBlob, nil
}

// Describe implements keystore.Wrapper.
func (p *Provider) Describe(ctx context.Context, s keystore.SlotInfo) (keystore.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.here(s.Provider.Key); err != nil {
		return keystore.Description{}, err
	}
	out, err := p.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &s.Provider.Key})
	if err != nil {
		return keystore.Description{}, p.failed(ctx, s.Provider.Key, err)
	}
	if out.KeyMetadata == nil || out.KeyMetadata.KeyState == "" {
		return keystore.Description{}, fmt.Errorf("awskms: key %s: %w", s.Provider.Key, errReply)
	}
	d := keystore.Description{Name: s.Provider.Key, State: "enabled", Place: "AWS KMS in " + p.region}
	if endpoint := p.client.Options().BaseEndpoint; endpoint != nil {
		d.Place = *endpoint
	}
	if state := out.KeyMetadata.KeyState; state != types.KeyStateEnabled {
		d.State = strings.ToLower(string(state))
	}
	return d, nil
}

// here refuses a key of another region than the one in which this machine asks: a vault does not say whom to ask.
func (p *Provider) here(key string) error {
	a, err := arn.Parse(key)
	if err != nil {
		return fmt.Errorf("awskms: key %q is not an ARN", key)
	}
	if a.Region != p.region {
		return fmt.Errorf("awskms: key %s is in region %q, this machine asks in %s: set AWS_REGION, or name the key by --key", key, a.Region, p.region)
	}
	return nil
}
