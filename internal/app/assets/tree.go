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

// UnmarshalJSON reads a tree in one pass, however deep it is. As every level by
// itself, its innermost part would be read and copied once for each level.
func (n *Node) UnmarshalJSON(b []byte) error {
	return n.read(json.NewDecoder(bytes.NewReader(b)), 0)
}

func (n *Node) read(d *json.Decoder, depth int) error {
	open, err := d.Token()
	if err != nil || open == nil {
		return err
	}
	if open != json.Delim('{') {
		return fmt.Errorf("a node of the tree is %.80v, not an object", open)
	}
	if depth > maxDepth {
		return fmt.Errorf("the tree's folders are nested more than %d deep", maxDepth)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		switch word, _ := key.(string); strings.ToLower(word) {
		case "name":
			err = d.Decode(&n.Name)
		case "timestamp":
			err = d.Decode(&n.Timestamp)
		case "type":
			err = d.Decode(&n.Type)
		case "hash":
			err = d.Decode(&n.Hash)
		case "children":
			n.Children, err = readNodes(d, depth+1)
		default:
			var other json.RawMessage
			err = d.Decode(&other)
		}
		if err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// readNodes reads both forms, and keeps names that occur twice so that they can
// be refused.
func readNodes(d *json.Decoder, depth int) (Nodes, error) {
	open, err := d.Token()
	if err != nil || open == nil {
		return nil, err
	}
	if open != json.Delim('{') && open != json.Delim('[') {
		return nil, fmt.Errorf("the children of a node are %.80v, neither an object nor a list", open)
	}
	var out Nodes
	for d.More() {
		key := json.Token(nil)
		if open == json.Delim('{') {
			if key, err = d.Token(); err != nil {
				return nil, err
			}
		}
		var child Node
		if err := child.read(d, depth); err != nil {
			return nil, err
		}
		if name, named := key.(string); named {
			if child.Name == "" {
				child.Name = name
			}
			if child.Name != name {
				return nil, fmt.Errorf("the node %.80q stands under the name %.80q", child.Name, name)
			}
		}
		out = append(out, child)
	}
	_, err = d.Token()
	return out, err
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

// treeOf makes a tree of paths, with a folder for all that lie in one.
func treeOf(files []File) Node {
	root := &sprout{}
	for _, f := range files {
		root.grow(f.Path)
	}
	return Node{Type: "Directory", Children: root.nodes()}
}

// sprout is a folder of a tree that grows, with its folders by name: looked for
// in a list, those of a large tree would take minutes to find.
type sprout struct {
	children Nodes
	folders  map[string]*sprout
	at       []string // the names of folders, at their places among the children
}

func (s *sprout) grow(path string) {
	name, rest, nested := strings.Cut(path, "/")
	if !nested {
		s.children, s.at = append(s.children, Node{Name: name, Type: "File"}), append(s.at, "")
		return
	}
	below := s.folders[name]
	if below == nil {
		if s.folders == nil {
			s.folders = map[string]*sprout{}
		}
		below = &sprout{}
		s.folders[name] = below
		s.children, s.at = append(s.children, Node{Name: name, Type: "Directory"}), append(s.at, name)
	}
	below.grow(rest)
}

func (s *sprout) nodes() Nodes {
	for i, name := range s.at {
		if name != "" {
			s.children[i].Children = s.folders[name].nodes()
		}
	}
	return s.children
}
