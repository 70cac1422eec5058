package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mountHelper is the name under which mount(8) runs this program for lines of fstab whose type is envfs.
const mountHelper = "mount.envfs"

// isMountHelper tells whether this process was started as mount's helper; the processes that it starts are no helpers.
func isMountHelper(args []string) bool {
	return len(args) > 0 && filepath.Base(args[0]) == mountHelper && !(len(args) > 1 && (args[1] == daemonVerb || args[1] == kdfVerb))
}

// mountHelperCommand is mount.envfs STORE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS], as mount(8) calls it.
func (a *app) mountHelperCommand() *cobra.Command {
	var (
		options             []string
		sloppy, fake, quiet bool
		verbose             bool
		namespace, kind     string
	)
	c := &cobra.Command{
		Use:   mountHelper + " STORE MOUNTPOINT [-o OPTIONS]",
		Short: "Mount a vault as /etc/fstab says",
		Long: `Mount a vault as /etc/fstab says: the flags of 'envfs mount' are options there, without the two hyphens.

  s3://team/vault?endpoint=https://minio.example  /srv/team  envfs  _netdev,nofail,key=awskms://alias/team,wait-open=5m  0 0
  /srv/vault                                      /srv/data  envfs  keyfile=/etc/envfs/vault.key,ro                      0 0

A comma within an option is written \054, a space \040. What other file systems' options say about users, devices and
programs is left to the mount: it allows no devices and no set-user-ID programs.`,
		Args:          cobra.ExactArgs(2),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			root := a.command()
			mount, _, err := root.Find([]string{"mount"})
			if err != nil {
				return err
			}
			words, err := mountWords(mount.Flags(), args[0], args[1], options)
			if err != nil {
				return usageError(c, err)
			}
			if fake {
				return nil
			}
			root.SetArgs(words)
			return root.ExecuteContext(c.Context())
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&options, "options", "o", nil, "OPTIONS of fstab")
	f.BoolVarP(&sloppy, "sloppy", "s", false, "for mount(8)")
	f.BoolVarP(&fake, "fake", "f", false, "do all but mount")
	f.BoolVarP(&quiet, "no-mtab", "n", false, "for mount(8)")
	f.BoolVarP(&verbose, "verbose", "v", false, "for mount(8)")
	f.StringVarP(&namespace, "namespace", "N", "", "for mount(8)")
	f.StringVarP(&kind, "types", "t", "", "for mount(8)")
	c.SetIn(a.in)
	c.SetOut(a.out)
	c.SetErr(a.talk)
	markUsage(c)
	return c
}

// ordinaryOptions are those of fstab that concern mount(8), systemd or the kernel, or say what is so anyway.
var ordinaryOptions = [...]string{"rw", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "defaults",
	"dev", "nodev", "suid", "nosuid", "exec", "atime", "noatime", "relatime", "norelatime", "async"}

// mountWords returns the words of the command line that mounts as options say; flags are those of mount.
func mountWords(flags *pflag.FlagSet, store, point string, options []string) ([]string, error) {
	words := []string{"mount"}
	for _, list := range options {
		for option := range strings.SplitSeq(list, ",") {
			flag, err := mountFlag(flags, option)
			if err != nil {
				return nil, err
			}
			if flag != "" {
				words = append(words, flag)
			}
		}
	}
	if os.Getuid() == 0 {
		words = append(words, "--allow-other")
	}
	return append(words, "--", store, point), nil
}

// fstabEscapes are fstab's ways to write what would end a field or an option.
var fstabEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\054`, ",", `\134`, `\`)

// mountFlag returns the flag that an option stands for; empty if it stands for none. It refuses one that would take the
// next word of the command line for its value.
func mountFlag(flags *pflag.FlagSet, option string) (string, error) {
	for _, o := range ordinaryOptions {
		if option == o {
			return "", nil
		}
	}
	switch {
	case option == "", strings.HasPrefix(option, "x-"), strings.HasPrefix(option, "comment="):
		return "", nil
	case option == "ro":
		return "--read-only", nil
	case option == "allow_other", option == "foreground", strings.HasPrefix(option, "foreground="):
		return "", fmt.Errorf("option %s: root's mounts let others in anyway, and go on in the background", option)
	case strings.HasPrefix(option, "-"):
		return "", fmt.Errorf("option %s: it begins with a hyphen", option)
	}
	name, value, _ := strings.Cut(option, "=")
	f := flags.Lookup(name)
	switch {
	case name == "help":
		return "", fmt.Errorf("option %s: it mounts nothing", name)
	case f != nil && f.NoOptDefVal == "" && value == "":
		return "", fmt.Errorf("option %s: it has no value", name)
	}
	return "--" + fstabEscapes.Replace(option), nil
}
