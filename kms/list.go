package kms

import (
	"slices"
	"strconv"
	"strings"
)

// page says which part of a list is wanted.
type page struct {
	Limit  *int
	Marker string
}

// pageEnd says whether there is more of a list.
type pageEnd struct {
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// cut returns a page of a list: limit elements, at most most, unless the caller wants another number. A marker is the
// number of the next element; what is added or removed meanwhile may be missing or listed twice.
func cut[T any](all []T, p page, limit, most int) ([]T, pageEnd, error) {
	if p.Limit != nil {
		limit = *p.Limit
	}
	if limit < 1 || limit > most {
		return nil, pageEnd{}, NewError(codeInvalid, "1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must be between 1 and %d", limit, most)
	}
	from := 0
	if p.Marker != "" {
		var err error
		if from, err = strconv.Atoi(p.Marker); err != nil || from < 0 {
			return nil, pageEnd{}, NewError("InvalidMarkerException", "The marker is not one that was given.")
		}
	}
	rest := all[min(from, len(all)):]
	if len(rest) <= limit {
		return rest, pageEnd{}, nil
	}
	return rest[:limit], pageEnd{strconv.Itoa(from + limit), true}, nil
}

type keyEntry struct {
	KeyID  string `json:"KeyId"`
	KeyArn string
}

type listKeysOutput struct {
	Keys []keyEntry
	pageEnd
}

func (s *Service) listKeys(c *Call, in *page) (*listKeysOutput, error) {
	if err := administer(c); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := []keyEntry{}
	for id, k := range s.keys {
		all = append(all, keyEntry{keyID(id), k.arn})
	}
	slices.SortFunc(all, func(a, b keyEntry) int { return strings.Compare(a.KeyID, b.KeyID) })
	var err error
	out := &listKeysOutput{}
	out.Keys, out.pageEnd, err = cut(all, *in, 100, 1000)
	return out, err
}

type listResourceTagsInput struct {
	KeyID string `json:"KeyId"`
	page
}

type listResourceTagsOutput struct {
	Tags []none
	pageEnd
}

// listResourceTags tells tools that ask (Terraform does) that a key has no tags: none can be given.
func (s *Service) listResourceTags(c *Call, in *listResourceTagsInput) (*listResourceTagsOutput, error) {
	_, done, err := s.readKey(c, in.KeyID)
	if err != nil {
		return nil, err
	}
	defer done()
	return &listResourceTagsOutput{Tags: []none{}}, nil
}
