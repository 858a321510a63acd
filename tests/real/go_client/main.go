// A scraper in Go. It prints the coding of a response, and the SHA-256 of the decoded body.
//
// Arguments: URL, file of the CA, certificate, key, and the Accept-Encoding to send. Without the last
// one, Go's net/http asks for gzip and decodes it.
package main

import (
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	url, ca, cert, key := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	pem, err := os.ReadFile(ca)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(cert, key)
	check(err)
	config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	check(err)
	if len(os.Args) > 5 {
		request.Header.Set("Accept-Encoding", os.Args[5])
	}
	response, err := client.Do(request)
	check(err)
	coding := response.Header.Get("Content-Encoding")
	var body io.Reader = response.Body
	switch {
	case response.StatusCode != http.StatusOK:
		log.Fatal(response.Status)
	case coding == "gzip":
		body, err = gzip.NewReader(body)
		check(err)
	case coding == "zstd":
		decoder, err := zstd.NewReader(body)
		check(err)
		body = decoder
	case response.Uncompressed:
		coding = "gzip by net/http"
	}
	hash := sha256.New()
	_, err = io.Copy(hash, body)
	check(err)
	fmt.Printf("%s %x\n", coding, hash.Sum(nil))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
