{{/* The settings of every node. Takes a list: the root, the component. */}}
{{- define "highwater.config.shared" -}}
{{- $root := index . 0 -}}
{{- $store := $root.Values.objectStorage -}}
config.providers=env
config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
controller.listener.names=CONTROLLER
controller.quorum.voters={{ range $i := until (int $root.Values.controller.replicas) }}{{ if $i }},{{ end }}{{ add 1000 $i }}@{{ include "highwater.host" (list $root "controller" $i) }}:{{ $root.Values.listeners.controller.port }}{{ end }}
highwater.data.dir=/var/lib/highwater/data
highwater.admin.listener=:9644
highwater.object.storage=s3://{{ $store.bucket }}{{ with $store.prefix }}/{{ trimAll "/" . }}{{ end }}
highwater.object.storage.credentials={{ $store.credentials }}
{{- with $store.endpoint }}
highwater.object.storage.endpoint={{ . }}
{{- end }}
{{- with $store.region }}
highwater.object.storage.region={{ . }}
{{- end }}
{{- if ne (toString $store.pathStyle) "" }}
highwater.object.storage.path.style={{ $store.pathStyle }}
{{- end }}
{{- with $store.kmsKey }}
highwater.object.storage.kms.key={{ . }}
{{- end }}
{{- if $store.ca.existingSecret }}
highwater.object.storage.ca.file=/etc/highwater/store-ca/ca.crt
{{- end }}
{{- if $root.Values.listeners.controller.tls.enabled }}
{{ include "highwater.config.tls" (list "controller" "") }}
{{- end }}
{{- end -}}

{{/* The settings of a listener on TLS. Takes a list: its name in lower case, clientAuth. */}}
{{- define "highwater.config.tls" -}}
{{- $prefix := printf "listener.name.%s" (index . 0) -}}
{{ $prefix }}.ssl.keystore.type=PEM
{{ $prefix }}.ssl.keystore.location=/etc/highwater/tls/{{ index . 0 }}/tls-combined.pem
{{- if ne (index . 1) "none" }}
{{ $prefix }}.ssl.truststore.type=PEM
{{ $prefix }}.ssl.truststore.location=/etc/highwater/tls/{{ index . 0 }}/ca.crt
{{- end }}
{{- with index . 1 }}
{{ $prefix }}.ssl.client.auth={{ . }}
{{- end }}
{{- end -}}

{{/* A value of a setting. Numbers of a values file are floats, which would be written with an exponent. */}}
{{- define "highwater.scalar" -}}
{{- if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* The settings that an operator gives; those of the component override the common ones, also with false, 0 and "",
which `merge` would take for unset. */}}
{{- define "highwater.config.given" -}}
{{- $root := index . 0 -}}
{{- $own := index $root.Values (index . 1) -}}
{{- range $name, $value := mergeOverwrite (dict) $root.Values.config $own.config }}
{{ $name }}={{ include "highwater.scalar" $value }}
{{- end }}
{{- end -}}

{{- define "highwater.config.controller" -}}
process.roles=controller
node.id=${env:NODE_ID}
listeners=CONTROLLER://:{{ .Values.listeners.controller.port }}
advertised.listeners=CONTROLLER://${env:POD_NAME}.{{ include "highwater.fullname" . }}-controller.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:{{ .Values.listeners.controller.port }}
listener.security.protocol.map=CONTROLLER:{{ ternary "SSL" "PLAINTEXT" .Values.listeners.controller.tls.enabled }}
{{ include "highwater.config.shared" (list . "controller") }}
{{- include "highwater.config.given" (list . "controller") }}
{{- end -}}

{{/* Takes a list: the root, and an ordinal or "${env:POD_INDEX}". With the variable it is the file of every broker,
unless "highwater.isByOrdinal"; then it is no file, but has all that the files of all brokers follow from. */}}
{{- define "highwater.config.broker" -}}
{{- $root := index . 0 -}}
{{- $ordinal := index . 1 -}}
{{- with $root.Values -}}
process.roles=broker
node.id={{ $ordinal }}
listeners=INTERNAL://:{{ .listeners.internal.port }}{{ range .listeners.external }},{{ .name }}://:{{ .port }}{{ end }}
advertised.listeners=INTERNAL://{{ include "highwater.host" (list $root "broker" $ordinal) }}:{{ .listeners.internal.port }}{{ range .listeners.external }},{{ .name }}://{{ .advertisedHost | replace "{ordinal}" (toString $ordinal) }}:{{ include "highwater.externalPort" (list . $ordinal) }}{{ end }}
listener.security.protocol.map=CONTROLLER:{{ ternary "SSL" "PLAINTEXT" .listeners.controller.tls.enabled }},INTERNAL:{{ ternary "SSL" "PLAINTEXT" .listeners.internal.tls.enabled }}{{ range .listeners.external }},{{ .name }}:{{ ternary "SSL" "PLAINTEXT" (dig "tls" "enabled" false .) }}{{ end }}
inter.broker.listener.name=INTERNAL
highwater.wal={{ .broker.wal }}
{{- if eq .broker.wal "disk" }}
highwater.wal.size={{ div (mul 4 (include "highwater.bytes" .broker.persistence.size)) 5 }}
{{- end }}
{{- if and .broker.rack.byOrdinal (kindIs "string" $ordinal) }}
broker.rack={{ join "," .broker.rack.byOrdinal }}
{{- else if .broker.rack.byOrdinal }}
broker.rack={{ index .broker.rack.byOrdinal (mod $ordinal (len .broker.rack.byOrdinal)) }}
{{- else if .broker.rack.label }}
broker.rack=${env:ZONE}
{{- end }}
{{- if .listeners.internal.tls.enabled }}
{{ include "highwater.config.tls" (list "internal" .listeners.internal.tls.clientAuth) }}
{{- end }}
{{- range .listeners.external }}
{{- if dig "tls" "enabled" false . }}
{{ include "highwater.config.tls" (list (lower .name) (dig "tls" "clientAuth" "none" .)) }}
{{- end }}
{{- end }}
{{ include "highwater.config.shared" (list $root "broker") }}
{{- include "highwater.config.given" (list $root "broker") }}
{{- end -}}
{{- end -}}

{{/* Whether each broker needs a file of its own, because no text makes node ports and racks of its ordinal. */}}
{{- define "highwater.isByOrdinal" -}}
{{- $is := .Values.broker.rack.byOrdinal -}}
{{- range .Values.listeners.external -}}
{{- if and (eq .type "NodePort") (not .advertisedPort) }}{{ $is = true }}{{ end -}}
{{- end -}}
{{- if $is }}true{{ end -}}
{{- end -}}

{{/* How the chart's own jobs reach the internal listener, if it is on TLS. */}}
{{- define "highwater.config.client" -}}
security.protocol=SSL
ssl.truststore.type=PEM
ssl.truststore.location=/etc/highwater/tls/internal/ca.crt
{{- if eq .Values.listeners.internal.tls.clientAuth "required" }}
ssl.keystore.type=PEM
ssl.keystore.location=/etc/highwater/tls/internal/tls-combined.pem
{{- end }}
{{- end -}}
