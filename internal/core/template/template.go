// Package template reads Azure Resource Manager templates: it turns a template,
// its parameters and what is known of its scope into a [Plan], the list of
// resources to put and of what each waits for.
//
// It does nothing itself. What an expression asks of the world (reference, list…)
// leaves the package as a [Need]; whoever evaluates fetches it and evaluates
// again with the answer among what is [Known]. Time is part of the [Input].
//
// Values are what JSON has: nil, bool, string, int64, float64, []any and
// map[string]any. Every evaluation has a budget of steps and bytes, so that no
// template can hang or fill the memory ([Limits]).
//
// Start at [New].
package template

import (
	"fmt"
	"time"
)

// Limits of templates. Those that Azure has are Azure's.
const (
	MaxResources  = 800    // in one template, copies counted
	maxParameters = 256    // Azure's
	maxVariables  = 512    // Azure's, since languageVersion 2.0
	maxOutputs    = 64     // Azure's
	maxExpression = 24_576 // characters of one expression: Azure's
	maxNesting    = 100    // of calls and brackets in one expression
	maxDepth      = 250    // of values inside values, and of variables that use variables
	maxCopies     = 10_000 // of a copy loop that is no resource's
)

// Limits are what one evaluation may use up. Fields that are 0 are those of [Ample].
type Limits struct {
	Steps int
	Bytes int // of the values that it makes; whole MB
}

// Ample is enough for every template that Azure takes.
var Ample = Limits{Steps: 500_000, Bytes: 32 << 20}

// Error says what is wrong with a template, and where.
type Error struct {
	Code string // Azure's: InvalidTemplate
	Path string // JSON path in the template, as "$.resources[0].name"; may be empty
	Msg  string // whole sentences
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Msg
	}
	return e.Msg + " (at " + e.Path + ")"
}

// bad is what is wrong at a place that callers above add.
func bad(format string, args ...any) *Error {
	return &Error{Code: "InvalidTemplate", Msg: fmt.Sprintf(format, args...)}
}

// at adds the place, unless an inner one is known.
func at(path string, err error) error {
	if e, ok := err.(*Error); ok && e.Path == "" {
		return &Error{Code: e.Code, Path: path, Msg: e.Msg}
	}
	return err
}

// Input is everything that a template may ask about, as data.
type Input struct {
	Template   map[string]any // the document
	Parameters map[string]any // name → {"value": …}
	Name       string         // of the deployment
	Mode       string         // Incremental or Complete
	// Scope is the ARM id of what is deployed to: a subscription or a resource group.
	Scope         string
	Location      string         // of a deployment to a subscription
	Tenant        map[string]any // what tenant() returns
	Subscription  map[string]any // what subscription() returns
	ResourceGroup map[string]any // what resourceGroup() returns; nil outside of one
	Deployer      map[string]any // what deployer() returns
	Environment   map[string]any // what environment() returns
	Now           time.Time      // what utcNow() returns
	Seed          string         // newGuid() is made of it
	Limits        Limits
}

// Need is a question to the world: a resource, or what an action on it answers.
type Need struct {
	ID         string // ARM id
	Action     string // "" for the resource itself, or listKeys and the like
	APIVersion string
	Body       any // of an action; may be nil
}

// Key tells needs apart.
func (n Need) Key() string {
	return n.Action + " " + lower(n.ID) + " " + n.APIVersion + " " + encode(n.Body)
}

// Known holds the answers to needs by their key: for a resource the whole of it.
type Known map[string]any
