package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"envfs/keystore/arena"
	"envfs/kms/audit"
	"envfs/kms/blob"
	"envfs/kms/ca"
	"envfs/kms/store"
)

// Service is a KMS that is open. It is safe for concurrent use; [Service.Close] must wait until nobody uses it.
type Service struct {
	dir       string
	config    Config
	store     *store.Store
	audit     *audit.Log
	authority *ca.Authority
	now       func() time.Time
	log       *slog.Logger

	change sync.Mutex // held over the whole of each change: there is one at a time
	room   room       // of who holds change

	notesMu  sync.Mutex
	obsolete []string // notes whose calls are in the log

	uses sync.RWMutex // held by who uses keys, and by a change that shows itself, until that is in the log; goes before mu

	mu      sync.RWMutex // of what follows; who reads holds it until done with the keys' bytes
	keys    map[blob.ID]*key
	aliases map[string]alias
	users   map[string]*user
	access  map[string]*user // by access key
}

// Options say how a service runs.
type Options struct {
	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // for the operator; nil: none
}

// Open opens the KMS in dir, and holds its lock until it is closed. Errors are those of [store.Open],
// [audit.ErrAltered], or others.
func Open(ctx context.Context, dir string, sealer store.Sealer, o Options) (*Service, error) {
	s := &Service{
		dir: dir, now: o.Now, log: o.Log,
		keys: map[blob.ID]*key{}, aliases: map[string]alias{}, users: map[string]*user{}, access: map[string]*user{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.store, err = store.Open(ctx, StorePath(dir), sealer); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) open() error {
	if err := s.load(); err != nil {
		return err
	}
	if err := publish(s.dir, s.authority); err != nil {
		return err
	}
	if err := s.room.locked(); err != nil {
		s.log.Warn("keys may reach the swap space", "cause", err)
	}
	log, torn, err := audit.Open(AuditDir(s.dir))
	if err != nil {
		return err
	}
	s.audit = log
	if torn.Bytes > 0 {
		s.log.Warn("a crash has left a line of the audit log unfinished; it was put aside", "bytes", torn.Bytes, "file", torn.File)
		c := &Call{Action: "RecoverAuditLog", Caller: Caller{ARN: serviceName}, ID: NewRequestID(), at: s.now(), subject: fmt.Sprintf("%d bytes", torn.Bytes)}
		if err := s.audit.Append(c.entry(okResult)); err != nil {
			return err
		}
	}
	return s.recall()
}

// load reads the store.
func (s *Service) load() error {
	var certificate, caKey []byte
	defer func() { clear(caKey) }()
	config := func(name string, value []byte) error {
		switch name {
		case recordConfig:
			return json.Unmarshal(value, &s.config)
		case recordCertificate:
			certificate = append(certificate, value...)
		case recordKey:
			caKey = append(caKey, value...)
		}
		return nil
	}
	err := s.store.Each(tableConfig, config)
	if err == nil {
		s.authority, err = ca.Parse(certificate, caKey)
	}
	if err == nil {
		err = s.config.check()
	}
	for _, t := range []struct {
		table string
		load  func(name string, value []byte) error
	}{{tableKeys, s.loadKey}, {tableBacking, s.loadBacking}, {tableAliases, s.loadAlias}, {tableUsers, s.loadUser}} {
		if err == nil {
			err = s.store.Each(t.table, t.load)
		}
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", StorePath(s.dir), err)
	}
	for _, k := range s.keys {
		if len(k.Backing) == 0 || len(k.backing) != len(k.Backing) {
			return fmt.Errorf("read %s: key %s has not all its backing keys: %w", StorePath(s.dir), keyID(k.id), store.ErrDamaged)
		}
	}
	return nil
}

func (s *Service) loadKey(name string, value []byte) error {
	id, ok := parseKeyID(name)
	if !ok {
		return fmt.Errorf("key %q: %w", name, store.ErrDamaged)
	}
	k := &key{id: id, arn: s.config.keyARN(id), backing: map[backingID]*arena.Key{}}
	s.keys[id] = k
	return k.load(value, s.config.Account)
}

func (s *Service) loadBacking(name string, value []byte) error {
	first, second, _ := strings.Cut(name, "/")
	id, ok := parseKeyID(first)
	backing, ok2 := parseKeyID(second)
	k := s.keys[id]
	if !ok || !ok2 || k == nil || len(value) != 32 {
		return fmt.Errorf("backing key %q: %w", name, store.ErrDamaged)
	}
	a, err := s.room.hold(value)
	if err != nil {
		return err
	}
	k.backing[backingID(backing)] = a
	return nil
}

func (s *Service) loadAlias(name string, value []byte) error {
	var a alias
	if err := json.Unmarshal(value, &a); err != nil {
		return fmt.Errorf("alias %q: %w", name, err)
	}
	s.aliases[name] = a
	return nil
}

func (s *Service) loadUser(name string, value []byte) error {
	u := new(user)
	if err := json.Unmarshal(value, u); err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	s.showUser(u)
	return nil
}

// Close writes what waits to be logged, wipes all keys and gives up the lock.
func (s *Service) Close() error {
	var err error
	if s.audit != nil {
		err = s.audit.Close()
	}
	s.room.close()
	return errors.Join(err, s.store.Close())
}

// Reseal has the root secret rest under another seal from now on, for a caller who administers the KMS on its machine,
// and has that in the log: also if this process ends before the line is there.
func (s *Service) Reseal(ctx context.Context, c *Call, sealer store.Sealer) error {
	c.Action, c.at, c.subject = "Reseal", s.now(), sealer.Kind()
	s.change.Lock()
	defer s.change.Unlock()
	to, err := s.store.Seal(ctx, sealer)
	if err != nil {
		return err
	}
	defer s.settle(c)
	if err := s.commit(c, func(tx *store.Tx) error { return tx.Reseal(to) }, func() {}); err != nil {
		return errors.Unwrap(err) // who administers is told what callers are not
	}
	return s.record(c, okResult)
}

// Config returns what the KMS calls itself.
func (s *Service) Config() Config { return s.config }

// Authority returns the certificate authority of the KMS.
func (s *Service) Authority() *ca.Authority { return s.authority }

// Healthy returns why the last call could not be answered, as far as that lies with the service, or nil.
func (s *Service) Healthy() error { return s.audit.Trouble() }

// Secret returns what a request under an access key is signed with, and false if there is no such access key.
func (s *Service) Secret(accessKey string) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, ok := s.access[accessKey]
	if !ok {
		return nil, false
	}
	for _, a := range u.Access {
		if a.ID == accessKey {
			return a.Secret, true
		}
	}
	return nil, false
}

// Caller returns who an access key belongs to, and false if there is no such access key.
func (s *Service) Caller(accessKey string) (Caller, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, ok := s.access[accessKey]
	if !ok {
		return Caller{AccessKey: accessKey}, false
	}
	return Caller{ARN: s.config.userARN(u.Name), Admin: u.Admin, AccessKey: accessKey}, true
}
