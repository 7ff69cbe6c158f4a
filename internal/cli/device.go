package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) deviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "device",
		Short:   "Let another device sign in",
		Example: "  ebb device approve BCDFGHJK",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "approve CODE",
		Short: "Approve the code that \"az login --use-device-code\" shows",
		Long: `Approve the code that "az login --use-device-code" shows.

The client that shows the code is signed in as the client file's. The page that
it names does the same, for those who have no ebb at hand. Approve only a code
that you see on a device of your own.`,
		Example: "  ebb device approve BCDFGHJK",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which code? The client that signs in shows it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			var as struct {
				As string `json:"as"`
			}
			if _, err := c.Do(cmd.Context(), "POST", "/ebb/v1/login/device", map[string]string{"code": args[0]}, &as); err != nil {
				return err
			}
			fmt.Fprintf(a.Stderr, "Approved: the client goes on as %s.\n", as.As)
			return nil
		},
	})
	return cmd
}
