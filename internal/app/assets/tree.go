package assets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

// What a snapshot may be. The client's own limits are 300 MB and 2,000 files,
// which its users may lift.
const (
	maxDepth = 64        // folders
	maxFiles = 100_000   //
	maxName  = 255       // bytes, Linux's limit on one name
	maxPath  = 2048      // bytes
	maxTotal = 256 << 30 // bytes of all files
)

// Node is a file or folder of a snapshot, as SDK v1's DirTreeNode.
type Node struct {
	Name      string `json:"name"`
	Timestamp string `json:"timestamp,omitempty"`
	Type      string `json:"type"` // "File" or "Directory"
	Hash      string `json:"hash,omitempty"`
	Children  Nodes  `json:"children"`
}

// Nodes are the children of a folder. The client's second form writes them as
// an object by name, its first as a list.
type Nodes []Node

// UnmarshalJSON reads both forms, and keeps names that occur twice so that they
// can be refused.
func (n *Nodes) UnmarshalJSON(b []byte) error {
	*n = nil
	b = bytes.TrimSpace(b)
	if len(b) == 0 || b[0] != '{' {
		return json.Unmarshal(b, (*[]Node)(n))
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var child Node
		if err := dec.Decode(&child); err != nil {
			return err
		}
		if child.Name == "" {
			child.Name, _ = key.(string)
		}
		if child.Name != key {
			return fmt.Errorf("the node %.80q stands under the name %.80q", child.Name, key)
		}
		*n = append(*n, child)
	}
	return nil
}

// MarshalJSON writes children as an object by name, which SDK v1 reads back.
func (n Nodes) MarshalJSON() ([]byte, error) {
	m := make(map[string]Node, len(n))
	for _, c := range n {
		m[c.Name] = c
	}
	return json.Marshal(m)
}

// leaf is a file of a tree.
type leaf struct{ path, hash string }

func badTree(format string, args ...any) error {
	return fault.Coded(fault.Invalid, "InvalidSnapshot", "DirTreeNode", format, args...)
}

// leaves flattens a tree, and refuses one that could not be laid out safely on
// any disk: what leaves its folder, names that are no names, links, too much.
func (root *Node) leaves() ([]leaf, error) {
	var out []leaf
	var walk func(n *Node, prefix string, depth int) error
	walk = func(n *Node, prefix string, depth int) error {
		if depth > maxDepth {
			return badTree("Folders are nested more than %d deep.", maxDepth)
		}
		seen := make(map[string]bool, len(n.Children))
		for i := range n.Children {
			c := &n.Children[i]
			if err := checkName(c.Name); err != nil {
				return err
			}
			if seen[c.Name] {
				return badTree("The name %.80q occurs twice in the folder %.80q.", c.Name, prefix)
			}
			seen[c.Name] = true
			path := prefix + c.Name
			if len(path) > maxPath {
				return badTree("The path %.80q... has %d bytes; at most %d are allowed.", path, len(path), maxPath)
			}
			switch c.Type {
			case "Directory":
				if err := walk(c, path+"/", depth+1); err != nil {
					return err
				}
			case "File":
				if len(c.Children) > 0 {
					return badTree("The file %.80q has children.", path)
				}
				if out = append(out, leaf{path, c.Hash}); len(out) > maxFiles {
					return badTree("The snapshot has more than %d files.", maxFiles)
				}
			default:
				return badTree("%.80q is of the type %.40q; only files and folders are taken.", path, c.Type)
			}
		}
		return nil
	}
	if root.Type != "Directory" && root.Type != "" {
		return nil, badTree("The root is of the type %.40q; it must be a folder.", root.Type)
	}
	return out, walk(root, "", 0)
}

// checkName refuses what is not the plain name of one file.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return badTree("%q is not a file name.", name)
	case len(name) > maxName:
		return badTree("The name %.80q... has %d bytes; at most %d are allowed.", name, len(name), maxName)
	case strings.ContainsAny(name, "/\\"):
		return badTree("The name %.80q holds a slash or backslash.", name)
	case !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError):
		return badTree("A name is not UTF-8.")
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f {
			return badTree("The name %.80q holds a control character.", name)
		}
	}
	return nil
}

// checkPath refuses what is not a relative path of plain names.
func checkPath(path string) error {
	if len(path) > maxPath {
		return badTree("The path %.80q... has %d bytes; at most %d are allowed.", path, len(path), maxPath)
	}
	for name := range strings.SplitSeq(path, "/") {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// grow adds a file to a tree, making its folders.
func (root *Node) grow(path, hash string) {
	at := root
	names := strings.Split(path, "/")
	for i, name := range names {
		if i == len(names)-1 {
			at.Children = append(at.Children, Node{Name: name, Type: "File", Hash: hash})
			return
		}
		next := -1
		for k := range at.Children {
			if at.Children[k].Name == name && at.Children[k].Type == "Directory" {
				next = k
			}
		}
		if next < 0 {
			at.Children = append(at.Children, Node{Name: name, Type: "Directory"})
			next = len(at.Children) - 1
		}
		at = &at.Children[next]
	}
}
