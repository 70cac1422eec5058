package secret

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
)

// groupWords is how many words of a recovery code stand in one group.
const groupWords = 4

// Groups splits a recovery code into the groups in which it is shown.
func Groups(code string) []string {
	words := strings.Fields(code)
	var groups []string
	for len(words) > 0 {
		n := min(groupWords, len(words))
		groups = append(groups, strings.Join(words[:n], " "))
		words = words[n:]
	}
	return groups
}

// ShowRecovery shows a recovery code once and asks two of its groups back, until they are right.
func (t *Terminal) ShowRecovery(ctx context.Context, code string) error {
	if !t.Present() {
		return ErrNoTerminal
	}
	groups := Groups(code)
	fmt.Fprintln(t.out, "\nThis is the recovery code. It opens the vault without the passphrase and is shown only now. Write it down:")
	for i, g := range groups {
		fmt.Fprintf(t.out, "  %d  %s\n", i+1, g)
	}
	fmt.Fprintln(t.out)
	first, second, err := twoOf(len(groups))
	if err != nil {
		return err
	}
	for _, i := range []int{first, second} {
		for {
			line, err := t.Line(ctx, fmt.Sprintf("Type group %d: ", i+1))
			if err != nil {
				return err
			}
			if strings.Join(strings.Fields(strings.ToLower(line)), " ") == groups[i] {
				break
			}
			fmt.Fprintln(t.out, "That is not what it says. Look again.")
		}
	}
	return nil
}

// twoOf draws two different numbers below n, in order.
func twoOf(n int) (a, b int, err error) {
	if n < 2 {
		return 0, 0, errors.New("recovery code: too short")
	}
	x, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0, 0, err
	}
	y, err := rand.Int(rand.Reader, big.NewInt(int64(n-1)))
	if err != nil {
		return 0, 0, err
	}
	a, b = int(x.Int64()), int(y.Int64())
	if b >= a {
		b++
	}
	return min(a, b), max(a, b), nil
}

// WriteRecovery writes a recovery code to a new file that only its owner can read.
func WriteRecovery(name, code string) error {
	return WriteNew(name, strings.Join(Groups(code), "\n")+"\n")
}

// WriteNew writes text to a file that must not exist yet and that only its owner can read, durably.
func WriteNew(name, text string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}
