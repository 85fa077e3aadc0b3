#!/usr/bin/env bash
# certificates.sh DIR NODES: the keys and certificates of a control plane with NODES nodes, and a kubeconfig for each of
# its parts, whose server is https://10.77.0.1:6443.
set -eu
cd "$1"
nodes=$2

key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}

# Takes a name, the subject, and the extensions.
certificate() {
    key "$1"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
        -extfile <(echo "$3") 2> /dev/null
}

# Takes a name and the subject.
client() {
    [ -e "$1.crt" ] || certificate "$1" "$2" "extendedKeyUsage=clientAuth"
    cat > "$1.conf" <<EOT
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://10.77.0.1:6443", certificate-authority: $PWD/ca.crt}}]
users: [{name: $1, user: {client-certificate: $PWD/$1.crt, client-key: $PWD/$1.key}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
EOT
}

key ca
openssl req -x509 -new -key ca.key -subj /CN=highwater-test -days 30 -out ca.crt
key accounts
openssl ec -in accounts.key -pubout -out accounts.pub 2> /dev/null
service=kubernetes.default.svc
certificate apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth
subjectAltName=IP:10.77.0.1,IP:10.79.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local"
client admin /O=system:masters/CN=admin
client controllers /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
for n in $(seq "$nodes"); do
    certificate "node$n" "/O=system:nodes/CN=system:node:node$n" "extendedKeyUsage=clientAuth,serverAuth
subjectAltName=IP:10.77.0.1$n,DNS:node$n"
    client "node$n" ""
done
