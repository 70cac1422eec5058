package copies

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// torn is a copy of a vault that took so long that its parts are of several moments, or was cut off.
type torn struct {
	objects map[string]string
	how     string
	last    int  // the frame of its newest part
	root    int  // the frame of its root
	exact   bool // it is of one moment
	lossy   bool // something is gone or cut off that was there all the time
}

// tear makes a copy.
func (fm *film) tear(rnd *rand.Rand) *torn {
	at := rnd.IntN(len(fm.frames))
	from := at - rnd.IntN(min(at, 60)+1)
	c := &torn{objects: make(map[string]string), last: at, root: at}
	some := func() int { return from + rnd.IntN(at-from+1) }
	take := func(name string, i int) {
		if data, ok := fm.frames[i].objects[name]; ok {
			c.objects[name] = data
		}
		if name == "root" {
			c.root = i
		}
	}
	switch rnd.IntN(6) {
	case 0:
		c.objects, c.exact = maps.Clone(fm.frames[at].objects), true
	case 1:
		c.how = fmt.Sprintf("each object of a moment since %d", from)
		for _, name := range fm.names(from, at) {
			take(name, some())
		}
	case 2:
		c.how = fmt.Sprintf("each directory of a moment since %d", from)
		when := make(map[string]int)
		for _, name := range fm.names(from, at) {
			top, _, _ := strings.Cut(name, "/")
			if _, ok := when[top]; !ok {
				when[top] = some()
			}
			take(name, when[top])
		}
	case 3:
		c.how = fmt.Sprintf("walked since %d", from)
		fm.walk(rnd, from, at, take)
	case 4:
		c.how, c.lossy = fmt.Sprintf("root of %d", from), true
		c.objects = maps.Clone(fm.frames[at].objects)
		take("root", from)
	case 5:
		c.how, c.lossy = fmt.Sprintf("all but root of %d", from), true
		c.objects = maps.Clone(fm.frames[from].objects)
		take("root", at)
	}
	if rnd.IntN(2) == 0 {
		c.cut(rnd)
	}
	c.how = fmt.Sprintf("moment %d: %s", at, c.how)
	return c
}

// names returns the names of all objects that there were from one frame to another, in order.
func (fm *film) names(from, to int) []string {
	all := make(map[string]bool)
	for i := from; i <= to; i++ {
		for name := range fm.frames[i].objects {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// walk copies as a tool does that lists a directory, then copies what it has listed, then goes on to the next one.
func (fm *film) walk(rnd *rand.Rand, from, at int, take func(string, int)) {
	dirs := make(map[string]bool)
	for _, name := range fm.names(from, at) {
		dirs[path.Dir(name)] = true
	}
	order := slices.Sorted(maps.Keys(dirs))
	if rnd.IntN(2) == 0 {
		rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	now := from
	for i, d := range order {
		if left := (at - now) / (len(order) - i); left > 0 || rnd.IntN(3) == 0 {
			now = min(at, now+rnd.IntN(2*left+2))
		}
		for _, name := range slices.Sorted(maps.Keys(fm.frames[now].objects)) {
			if path.Dir(name) == d {
				if rnd.IntN(12) == 0 {
					now = min(at, now+rnd.IntN(3))
				}
				take(name, now)
			}
		}
	}
}

// cut removes objects, or what comes after some of their bytes.
func (c *torn) cut(rnd *rand.Rand) {
	var did []string
	names := slices.Sorted(maps.Keys(c.objects))
	var few []string // of the kinds of which there are few
	for _, name := range names {
		if !strings.HasPrefix(name, "files/") && !strings.HasPrefix(name, "dirs/") {
			few = append(few, name)
		}
	}
	for range 1 + rnd.IntN(4) {
		from := names
		if rnd.IntN(2) == 0 {
			from = few
		}
		name := from[rnd.IntN(len(from))]
		switch {
		case name == "root" || strings.HasPrefix(name, "keys/") || c.objects[name] == "":
		case rnd.IntN(2) == 0:
			delete(c.objects, name)
			did = append(did, "no "+name)
		default:
			n, at := len(c.objects[name]), 0
			if n > 512 {
				at = rnd.IntN((n+511)/512) * 512
			}
			c.objects[name] = c.objects[name][:at]
			did = append(did, fmt.Sprintf("%s cut at %d of %d", name, at, n))
		}
	}
	if len(did) > 0 {
		c.exact, c.lossy = false, true
		c.how += ", " + strings.Join(did, ", ")
	}
}

func sortedKeys(objects map[string]string) []string { return slices.Sorted(maps.Keys(objects)) }

// thin removes all objects of some kinds, or many.
func (c *torn) thin(rnd *rand.Rand) {
	for _, kind := range []string{"dirs", "files", "folds", "journal", "roots"} {
		if rnd.IntN(3) > 0 {
			continue
		}
		share := []int{1, 2, 10}[rnd.IntN(3)]
		for _, name := range sortedKeys(c.objects) {
			if strings.HasPrefix(name, kind+"/") && rnd.IntN(share) == 0 {
				delete(c.objects, name)
			}
		}
		c.how += fmt.Sprintf(", one in %d of %s gone", share, kind)
	}
	c.exact, c.lossy = false, true
}
