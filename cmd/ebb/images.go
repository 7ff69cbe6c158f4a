package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/ebb-compute/ebb/internal/config"
	"github.com/ebb-compute/ebb/internal/node/runner/image"
)

// imageSettings are the settings of images in the words of nodes, as their
// engines hand them on. Passwords in files are read now.
func imageSettings(c config.Images) (json.RawMessage, error) {
	set := image.Settings{Archives: c.Archives, Mirrors: c.Mirrors, BuildNetwork: c.BuildNetwork}
	for host, r := range c.Registries {
		login := image.Login{Username: r.Username, Password: r.Password, Token: r.Token}
		if r.PasswordFile != "" {
			text, err := os.ReadFile(r.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("read images.registries.%s.password_file: %w", host, err)
			}
			login.Password = strings.TrimRight(string(text), "\r\n")
		}
		if set.Registries == nil {
			set.Registries = map[string]image.Login{}
		}
		set.Registries[host] = login
	}
	return json.Marshal(set)
}
