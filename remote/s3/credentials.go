package s3

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// findCredentials looks where S3 tools look: the environment (AWS_*, then MINIO_*), the files of the AWS command line,
// those of mc (the alias of this endpoint), and what the machine gives its programs (web identity, ECS, EC2).
// They are looked for again when they expire.
func findCredentials(a Address) *credentials.Credentials {
	providers := []credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.EnvMinio{},
		&credentials.FileAWSCredentials{Profile: a.Profile},
		&mcAlias{address: a},
	}
	machine := new(credentials.IAM)
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
		machine.Endpoint = os.Getenv("AWS_ENDPOINT_URL_STS") // as other tools take it; else Amazon's
	}
	if a.Profile != "" {
		providers = []credentials.Provider{&credentials.FileAWSCredentials{Profile: a.Profile}}
	} else if a.isAWS() || machineGives() {
		providers = append(providers, machine)
	}
	return credentials.New(&chain{providers: providers})
}

// machineGives reports whether the environment says that the machine has credentials. Where it says nothing, only Amazon's
// own machines are asked, as the request to their address hangs elsewhere.
func machineGives() bool {
	for _, name := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// chain asks the providers in turn, each time that credentials are needed or have expired, and tells why there are none.
type chain struct {
	providers []credentials.Provider
	current   credentials.Provider
}

func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	var errs []error
	for _, p := range c.providers {
		v, err := p.RetrieveWithCredContext(cc)
		if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			c.current = p
			return v, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	c.current = nil
	return credentials.Value{}, &ConfigError{
		What:    "no credentials were found",
		Hint:    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials (?profile=NAME), or `mc alias set`",
		Err:     errors.Join(errs...),
		Passing: true,
	}
}

func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

func (c *chain) IsExpired() bool { return c.current == nil || c.current.IsExpired() }

// credentials returns what requests are signed with now; nothing if there are none.
func (s *Store) credentials() credentials.Value {
	v, err := s.creds.GetWithContext(s.core.CredContext())
	if err != nil {
		return credentials.Value{} // the request will tell why
	}
	return v
}

// renew looks for credentials anew, after the server has refused those that were used. It reports whether there are others
// now.
func (s *Store) renew(used credentials.Value) bool {
	if differ(s.credentials(), used) {
		return true // somebody else was faster
	}
	s.creds.Expire()
	return differ(s.credentials(), used)
}

func differ(a, b credentials.Value) bool {
	return a.AccessKeyID != b.AccessKeyID || a.SecretAccessKey != b.SecretAccessKey || a.SessionToken != b.SessionToken
}

// mcAlias finds the credentials of the alias in mc's configuration whose URL is the address's endpoint.
type mcAlias struct {
	address Address
	found   bool
}

type mcConfig struct {
	Aliases map[string]struct {
		URL          string `json:"url"`
		AccessKey    string `json:"accessKey"`
		SecretKey    string `json:"secretKey"`
		SessionToken string `json:"sessionToken"`
		API          string `json:"api"`
	} `json:"aliases"`
}

func (m *mcAlias) Retrieve() (credentials.Value, error) {
	m.found = false
	home, err := os.UserHomeDir()
	if err != nil {
		return credentials.Value{}, os.ErrNotExist
	}
	data, err := os.ReadFile(filepath.Join(home, ".mc", "config.json"))
	if err != nil {
		return credentials.Value{}, err
	}
	var config mcConfig
	if err := json.Unmarshal(data, &config); err != nil {
		return credentials.Value{}, err
	}
	for _, alias := range config.Aliases {
		u, err := url.Parse(alias.URL)
		if err != nil || alias.AccessKey == "" {
			continue
		}
		endpoint, plain, err := parseEndpoint(strings.TrimSuffix(u.Scheme+"://"+u.Host, "/"))
		if err == nil && endpoint == m.address.Endpoint && plain == m.address.Plain {
			m.found = true
			return credentials.Value{AccessKeyID: alias.AccessKey, SecretAccessKey: alias.SecretKey,
				SessionToken: alias.SessionToken, SignerType: credentials.SignatureV4}, nil
		}
	}
	return credentials.Value{}, os.ErrNotExist
}

func (m *mcAlias) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return m.Retrieve()
}

func (m *mcAlias) IsExpired() bool { return !m.found }
