package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mxdiscover/internal/world"
)

func (a *app) worldCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "world FILE",
		Short: "Serve a federation on loopback, to try things against",
		Long: `world starts the DNS server, the certificate authority and the HTTPS servers
that FILE describes, all on loopback, and serves them until it is stopped. It
prints the flags with which another program (this one, curl, dig) reaches them.

With --world FILE any other verb acts inside such a world by itself.`,
		Example: `  mxdiscover world testdata/worlds/tour.txtar`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("world takes one FILE")
			}
			return nil
		},
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			scene, err := world.Load(args[0])
			if err != nil {
				return usagef("%v", err)
			}
			w, err := scene.Start(a.net)
			if err != nil {
				return err
			}
			defer w.Close()
			dir, err := os.MkdirTemp("", "mxdiscover-world-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			ca := filepath.Join(dir, "ca.pem")
			if err := os.WriteFile(ca, w.CAPEM(), 0o644); err != nil {
				return err
			}
			if err := a.describeWorld(w, ca, asJSON); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the flags as one JSON object")
	return cmd
}

// describeWorld prints how to reach w.
func (a *app) describeWorld(w *world.World, ca string, asJSON bool) error {
	var nets []string
	for _, prefix := range w.AllowNets() {
		nets = append(nets, prefix.String())
	}
	if asJSON {
		return json.NewEncoder(a.stdout).Encode(struct {
			DNS       []string `json:"dns"`
			CACert    string   `json:"cacert"`
			ConnectTo []string `json:"connect_to"`
			AllowNets []string `json:"allow_net"`
		}{w.DNSServers(), ca, w.ConnectTo(), nets})
	}
	fmt.Fprintln(a.stderr, "The world is up; Ctrl-C ends it. Reach it with:")
	for _, server := range w.DNSServers() {
		fmt.Fprintf(a.stdout, "--dns %s\n", server)
	}
	fmt.Fprintf(a.stdout, "--cacert %s\n", ca)
	for _, prefix := range nets {
		fmt.Fprintf(a.stdout, "--allow-net %s\n", prefix)
	}
	for _, to := range w.ConnectTo() {
		fmt.Fprintf(a.stdout, "--connect-to %s\n", to)
	}
	return nil
}
