package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-compute/ebb/client"
)

// With "alias az=ebb" a script's other commands arrive here too. They are az's
// own: they run in the real az, under the proxy of "ebb exec". Without it, what
// only asks for a login is answered from the client file.

// azGroups are the groups of az that scripts for Azure ML use.
var azGroups = []string{
	"account", "acr", "ad", "advisor", "appconfig", "bicep", "cache", "cloud", "configure", "deployment", "extension", "feature", "feedback", "find",
	"group", "identity", "interactive", "keyvault", "lock", "login", "logout", "managedapp", "monitor", "network", "policy", "provider", "resource",
	"rest", "role", "storage", "tag", "ts", "upgrade", "vm",
}

func (a *app) azCommands() []*cobra.Command {
	var list []*cobra.Command
	for _, name := range azGroups {
		list = append(list, a.azCommand(name, name))
	}
	return list
}

// azCommand passes a group of az on.
func (a *app) azCommand(use string, words ...string) *cobra.Command {
	return &cobra.Command{
		Use:                use,
		Short:              "az " + strings.Join(words, " ") + ", in the real az",
		Example:            "  ebb " + strings.Join(words, " ") + " --help",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.az(cmd.Context(), append(slices.Clone(words), args...))
		},
	}
}

// az runs the real az; what needs none is done here.
func (a *app) az(ctx context.Context, args []string) error {
	if done, err := a.azHere(args); done || err != nil {
		return err
	}
	f, err := a.file()
	if err != nil {
		return err
	}
	path := a.realAz()
	if path == "" {
		return a.withoutAz(ctx, f, args)
	}
	dir := a.azConfigDir(f)
	if err := makeAzDir(dir, f); err != nil {
		return err
	}
	if args[0] == "login" && !saysHow(args) {
		// The password goes by a file: an argument can be read by anybody.
		secret := filepath.Join(dir, "ebb-secret")
		if err := os.WriteFile(secret, []byte(f.ClientSecret), 0o600); err != nil {
			return err
		}
		defer os.Remove(secret)
		args = append(args, "--service-principal", "--username", f.ClientID, "--password", "@"+secret, "--tenant", f.TenantID)
	}
	return a.exec(ctx, append([]string{path}, args...), field{"AZURE_CONFIG_DIR", dir})
}

// saysHow reports whether a login is by a way of its own.
func saysHow(args []string) bool {
	return slices.ContainsFunc(args, func(word string) bool {
		flag, _, _ := strings.Cut(word, "=")
		return slices.Contains([]string{"--service-principal", "--username", "-u", "--identity", "-i", "--use-device-code", "--tenant", "-t", "--help", "-h"}, flag)
	})
}

// azHere does what is about az ml itself: its extension, and its defaults.
func (a *app) azHere(args []string) (done bool, err error) {
	switch args[0] {
	case "extension":
		if name := extensionName(args); len(args) > 1 && (name == "ml" || name == "azure-cli-ml") {
			switch args[1] {
			case "add", "update", "remove":
				fmt.Fprintf(a.Stderr, "The extension %s is part of ebb: there is nothing to %s.\n", name, args[1])
				return true, nil
			case "show":
				return true, a.azPrint(args, a.extensionShape(name))
			}
		}
	case "configure":
		return a.configureHere(args[1:])
	}
	return false, nil
}

func extensionName(args []string) string {
	for i, word := range args {
		if name, ok := strings.CutPrefix(word, "--name="); ok {
			return name
		}
		if (word == "-n" || word == "--name") && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// withoutAz answers for az where it is not installed: who one is, is known from
// the client file. The credential is tried, so that a good answer is true.
func (a *app) withoutAz(ctx context.Context, f client.File, args []string) error {
	asked := strings.Join(args[:min(2, len(args))], " ")
	switch {
	case asked == "login", asked == "account show", asked == "account list":
		if err := a.tryCredential(ctx); err != nil {
			return err
		}
		one := accountShape(f)
		if asked == "account show" {
			return a.azPrint(args, one)
		}
		return a.azPrint(args, []object{one})
	case asked == "extension list":
		return a.azPrint(args, []object{a.extensionShape("ml")})
	case asked == "account set":
		if name := after(args, "-s", "--subscription", "-n", "--name"); !strings.EqualFold(name, f.SubscriptionID) {
			return fmt.Errorf("there is no subscription %s at this server; its subscription is %s", name, f.SubscriptionID)
		}
		return nil
	case asked == "logout", asked == "account clear":
		fmt.Fprintln(a.Stderr, "Nobody is logged in: ebb uses the credential of its client file each time.")
		return nil
	}
	return fmt.Errorf("\"az %s\" is Microsoft's Azure CLI's, which is not installed: pip install azure-cli, or see https://aka.ms/azure-cli. \"az ml\" needs none", strings.Join(args, " "))
}

func (a *app) extensionShape(name string) object {
	return object{{"name", name}, {"version", a.Version}, {"extensionType", "ebb"}}
}

func (a *app) tryCredential(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Workspace(ctx); err != nil && !client.IsNotFound(err) {
		return err
	}
	return nil
}

func accountShape(f client.File) object {
	return object{{"environmentName", "AzureCloud"}, {"id", f.SubscriptionID}, {"isDefault", true}, {"name", "Ebb"}, {"state", "Enabled"},
		{"tenantId", f.TenantID}, {"user", object{{"name", f.ClientID}, {"type", "servicePrincipal"}}}}
}

// azPrint prints as az would: its flags were not ours to read.
func (a *app) azPrint(args []string, data any) error {
	one := *a
	one.ml = true
	one.output = after(args, "-o", "--output")
	one.query = after(args, "--query")
	if err := one.checkOutput(); err != nil {
		return err
	}
	return one.print(data)
}

// after returns the word after one of some flags.
func after(args []string, flags ...string) string {
	for i, word := range args {
		for _, flag := range flags {
			if value, ok := strings.CutPrefix(word, flag+"="); ok && strings.HasPrefix(flag, "--") {
				return value
			}
			if word == flag && i+1 < len(args) {
				return args[i+1]
			}
		}
	}
	return ""
}

// realAz finds an az that is not ebb under its name.
func (a *app) realAz() string {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		if exe, xerr := os.Executable(); xerr == nil {
			self, err = os.Stat(exe)
		}
	}
	for _, dir := range filepath.SplitList(a.getenv("PATH")) {
		path := filepath.Join(dir, "az")
		info, ferr := os.Stat(path)
		if ferr != nil || info.IsDir() || info.Mode()&0o111 == 0 || err == nil && os.SameFile(info, self) {
			continue
		}
		return path
	}
	return ""
}

// makeAzDir makes az's folder, logged in to the server, unless it is there.
func makeAzDir(dir string, f client.File) error {
	if _, err := os.Stat(filepath.Join(dir, "azureProfile.json")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeAzFiles(dir, f)
}

// azConfigDir is where az keeps its logins and defaults for this server: yours
// if you named one, else one for the server alone, so that a token of Azure's
// and one of the server's are never taken for each other.
func (a *app) azConfigDir(f client.File) string {
	if own := a.getenv("AZURE_CONFIG_DIR"); own != "" {
		return own
	}
	base := a.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) {
		base = filepath.Join(a.getenv("HOME"), ".config")
	}
	sum := sha256.Sum256([]byte(f.URL + "\n" + f.TenantID))
	return filepath.Join(base, "ebb", "azure-"+hex.EncodeToString(sum[:4]))
}
