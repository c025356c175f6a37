package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An nginx is a web server as Debian has it, with a configuration of its own. It needs no root, and writes
// into a folder of the test alone.
type nginx struct{ dir string }

// nginxProgram is where nginx is; the test is skipped if it is nowhere.
func nginxProgram(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // Debian has it where users do not look
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("nginx is not installed: apt-get install --no-install-recommends nginx")
	return ""
}

// nginxMain is what is around the servers. The default type and the types are those of Debian.
const nginxMain = `
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log stderr;
events { worker_connections 1024; }
http {
	log_format brief '$scheme://$host "$request" $status $sent_http_content_encoding';
	access_log {dir}/access.log brief;
	client_body_temp_path {dir}/body;
	proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi;
	scgi_temp_path {dir}/scgi;
	default_type application/octet-stream;
	types { text/html html; application/json json; }
{servers}
}
`

// defaultCertificate is for servers without one of their own.
const defaultCertificate = `
	ssl_certificate {dir}/tls.crt;
	ssl_certificate_key {dir}/tls.key;
`

// startNginx, at these ports of 127.0.0.1, serves these configurations, by the names that they are for: https, or http where the name
// begins with "http://". In a configuration "{dir}" is the folder with files, each of which is a name and a text.
func startNginx(t *testing.T, f *federation, https, http int, servers map[string]string, files map[string]string) *nginx {
	t.Helper()
	program := nginxProgram(t)
	n := &nginx{t.TempDir()}
	var names []string
	var text strings.Builder
	for name, config := range servers {
		listen := fmt.Sprintf("listen 127.0.0.1:%d ssl;", https)
		if host, ok := strings.CutPrefix(name, "http://"); ok {
			name, listen = host, fmt.Sprintf("listen 127.0.0.1:%d;", http)
		}
		names = append(names, name)
		fmt.Fprintf(&text, "\tserver {\n\t\t%s\n\t\tserver_name %s;\n%s\n\t}\n", listen, name, config)
	}
	cert, key := pemFiles(t, f.certificate(t, names...))
	write := func(name, content string) {
		path := filepath.Join(n.dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
	}
	write("tls.crt", string(cert))
	write("tls.key", string(key))
	for name, content := range files {
		write(name, content)
	}
	n.start(t, program, strings.Replace(nginxMain, "{servers}", defaultCertificate+text.String(), 1), fmt.Sprintf("127.0.0.1:%d", https), fmt.Sprintf("127.0.0.1:%d", http))
	return n
}

// start starts it with this configuration and waits until it listens at these addresses.
func (n *nginx) start(t *testing.T, program, main string, addresses ...string) *process {
	t.Helper()
	if os.Geteuid() == 0 {
		main = "user root;\n" + main // or it gives its folders to another user, whom a user namespace lacks
	}
	path := filepath.Join(n.dir, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(main, "{dir}", n.dir)), 0o666))
	p, log := startServer(t, "nginx", exec.Command(program, "-p", n.dir, "-c", "nginx.conf"))
	eventually(t, startTimeout, "nginx listens", func(ctx context.Context) error {
		p.requireRunning(t, "nginx")
		for _, address := range addresses {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return fmt.Errorf("%w: %s", err, log.end(logShown))
			}
			conn.Close()
		}
		return nil
	})
	return p
}

// awaitLogged waits until a request is in the access log, where it comes after the answer.
func (n *nginx) awaitLogged(t *testing.T, line string) {
	t.Helper()
	eventually(t, answerTimeout, "nginx logs a request", func(context.Context) error {
		log, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
		if err == nil && !strings.Contains(string(log), line+"\n") {
			err = fmt.Errorf("%q is not in\n%s", line, log)
		}
		return err
	})
}
