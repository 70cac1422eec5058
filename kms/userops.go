package kms

import (
	"maps"
	"slices"
	"time"

	"envfs/kms/store"
)

// User is what is told of a user.
type User struct {
	Name       string
	ARN        string
	Admin      bool
	Created    time.Time
	AccessKeys []string // their ids
}

// UserInput is the input of the actions that concern a user.
type UserInput struct {
	Name    string
	Admin   bool // CreateUser
	KeepOld bool // RekeyUser: the access key in use works on
}

// createUser makes a user and tells the access key, once.
func (s *Service) createUser(c *Call, in *UserInput) (*Access, error) {
	c.subject = in.Name
	if !userForm.MatchString(in.Name) {
		return nil, NewError(codeInvalid, "The name of a user has 1 to 64 letters, digits and +=,.@_-")
	}
	s.change.Lock()
	defer s.change.Unlock()
	if u := s.user(in.Name); u != nil && u.Removed {
		return nil, NewError("AlreadyExistsException", "There was a user %s, whom policies may still name: take another name.", in.Name)
	} else if u != nil {
		return nil, NewError("AlreadyExistsException", "There is a user %s.", in.Name)
	}
	access := newAccessKey(c.at)
	return given(&access), s.putUser(c, &user{Name: in.Name, Admin: in.Admin, Created: c.at, Access: []accessKey{access}})
}

// given returns an access key as it is shown once.
func given(a *accessKey) *Access { return &Access{a.ID, string(a.Secret)} }

// user returns a user, or nil.
func (s *Service) user(name string) *user {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.users[name]
}

func (s *Service) putUser(c *Call, u *user) error {
	return s.commit(c, func(tx *store.Tx) error { return putJSON(tx, tableUsers, u.Name, u) }, func() { s.showUser(u) })
}

// showUser puts u in the place of who had its name. The caller holds s.mu for writing.
func (s *Service) showUser(u *user) {
	if old := s.users[u.Name]; old != nil {
		for _, a := range old.Access {
			delete(s.access, a.ID)
		}
	}
	s.users[u.Name] = u
	for _, a := range u.Access {
		s.access[a.ID] = u
	}
}

func noUser(name string) error { return NewError(codeNotFound, "There is no user %s.", clip(name)) }

// rekeyUser gives a user a new access key.
func (s *Service) rekeyUser(c *Call, in *UserInput) (*Access, error) {
	c.subject = in.Name
	s.change.Lock()
	defer s.change.Unlock()
	u := s.user(in.Name)
	if u == nil || u.Removed {
		return nil, noUser(in.Name)
	}
	access := newAccessKey(c.at)
	next := *u
	next.Access = []accessKey{access}
	if in.KeepOld {
		newest := u.Access[max(0, len(u.Access)-(maxAccessKeys-1)):]
		next.Access = append(slices.Clone(newest), access)
	}
	return given(&access), s.putUser(c, &next)
}

// removeUser takes all access keys of a user away. The name stays taken.
func (s *Service) removeUser(c *Call, in *UserInput) (*none, error) {
	c.subject = in.Name
	s.change.Lock()
	defer s.change.Unlock()
	u := s.user(in.Name)
	if u == nil || u.Removed {
		return nil, noUser(in.Name)
	}
	next := *u
	next.Removed, next.Access = true, nil
	return &none{}, s.putUser(c, &next)
}

// UserList is the output of ListUsers.
type UserList struct{ Users []User }

func (s *Service) listUsers(*Call, *none) (*UserList, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := &UserList{Users: []User{}}
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		u := s.users[name]
		if u.Removed {
			continue
		}
		told := User{Name: name, ARN: s.config.userARN(name), Admin: u.Admin, Created: u.Created, AccessKeys: []string{}}
		for _, a := range u.Access {
			told.AccessKeys = append(told.AccessKeys, a.ID)
		}
		out.Users = append(out.Users, told)
	}
	return out, nil
}
