package queue

import (
	"fmt"
	"strings"
)

// Fill puts values for the references in a command, as ${{inputs.lr}} and
// ${{outputs.model}}. get knows the value of what is between the braces; one it
// does not know is an error that names it. A block $[[ ... ]] goes without its
// brackets, or not at all where get does not know one of its references: it is
// how optional inputs are written. Values are not looked into again.
func Fill(text string, get func(ref string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		i := strings.Index(text, "$")
		if i < 0 || i == len(text)-1 {
			out.WriteString(text)
			return out.String(), nil
		}
		out.WriteString(text[:i])
		text = text[i:]
		switch {
		case strings.HasPrefix(text, "${{"):
			ref, rest, ok := strings.Cut(text[3:], "}}")
			if !ok {
				out.WriteString(text)
				return out.String(), nil // a shell's, perhaps
			}
			v, known := get(strings.TrimSpace(ref))
			if !known {
				return "", fmt.Errorf("${{%s}}", ref)
			}
			out.WriteString(v)
			text = rest
		case strings.HasPrefix(text, "$[["):
			block, rest, ok := strings.Cut(text[3:], "]]")
			if !ok {
				out.WriteString(text)
				return out.String(), nil
			}
			if v, err := Fill(block, get); err == nil {
				out.WriteString(v)
			}
			text = rest
		default:
			out.WriteByte('$')
			text = text[1:]
		}
	}
}

// Mode is how an input or output comes to a job and goes from it.
type Mode string

// The modes of mfe.json's InputDeliveryMode and OutputDeliveryMode.
const (
	ReadOnlyMount  Mode = "ReadOnlyMount"  // a folder or file that cannot be changed
	ReadWriteMount Mode = "ReadWriteMount" // of an input: a copy, whose files go back; of an output: a folder
	Download       Mode = "Download"       // a copy, the job's own
	Upload         Mode = "Upload"         // a folder, whose files go when the job ends
	Direct         Mode = "Direct"         // the address alone
)

// Input is data that a job reads.
type Input struct {
	Name string `json:"name"` // letters, digits and underscores
	Type string `json:"type"` // jobInputType, as "uri_file"
	URI  string `json:"uri"`  // as the user wrote it
	Mode Mode   `json:"mode"`
	Key  string `json:"key,omitempty"` // of the blob, or of those below it: "container/path"
	// Public is the https address of one file that anybody may read; the node does,
	// and then there is no Key.
	Public string `json:"public,omitempty"`
}

// Output is data that a job leaves.
type Output struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	URI     string `json:"uri"`
	Mode    Mode   `json:"mode"`
	Key     string `json:"key,omitempty"`
	Asset   string `json:"asset,omitempty"`   // name of the data asset or model that it becomes; empty: none
	Version string `json:"version,omitempty"` // of the asset; empty: the next
}

// OneFile reports whether an input or output of a type is a file, not a folder.
func OneFile(kind string) bool { return strings.EqualFold(kind, "uri_file") }

// Model reports whether a type is a model's, which may be a file or a folder.
func Model(kind string) bool { return strings.HasSuffix(strings.ToLower(kind), "_model") }
