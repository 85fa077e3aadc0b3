{{- define "highwater.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* The labels that selectors use, which never change. Takes a list: the root and the component. */}}
{{- define "highwater.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels of an object. Takes a list: the root, the component, and if it has some, labels of its own. */}}
{{- define "highwater.labels" -}}
{{- $root := first . -}}
{{- $more := dict -}}
{{- if gt (len .) 2 }}{{ $more = index . 2 }}{{ end -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version -}}
{{- $own := dict "app.kubernetes.io/part-of" "highwater" "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/managed-by" $root.Release.Service "helm.sh/chart" $chart -}}
{{- merge (include "highwater.selector" . | fromYaml) $own $more $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* The metadata of an object. Takes a list: the root, the component, the name, and if it has some, annotations and
labels of its own. */}}
{{- define "highwater.metadata" -}}
{{- $root := index . 0 -}}
{{- $annotations := dict -}}
{{- if gt (len .) 3 }}{{ $annotations = index . 3 }}{{ end -}}
{{- $labels := dict -}}
{{- if gt (len .) 4 }}{{ $labels = index . 4 }}{{ end -}}
name: {{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "highwater.labels" (list $root (index . 1) $labels) | nindent 2 }}
{{- with merge (dict) $annotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "highwater.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ default (include "highwater.fullname" .) .Values.serviceAccount.name }}
{{- else -}}{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "highwater.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}
{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of a pod's host. Takes a list: the root, the component, the ordinal. */}}
{{- define "highwater.host" -}}
{{- $root := index . 0 -}}
{{- $set := printf "%s-%s" (include "highwater.fullname" $root) (index . 1) -}}
{{ $set }}-{{ index . 2 }}.{{ $set }}.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}
{{- end -}}

{{- define "highwater.bootstrap" -}}
{{ include "highwater.fullname" . }}-bootstrap.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:{{ .Values.listeners.internal.port }}
{{- end -}}

{{/* The most brokers that there may be. */}}
{{- define "highwater.brokersMax" -}}
{{- $max := int .Values.broker.replicas -}}
{{- if .Values.broker.autoscaling.enabled }}{{ $max = int .Values.broker.autoscaling.maxReplicas }}{{ end -}}
{{ $max }}
{{- end -}}

{{/* Bytes of a quantity such as 512Mi. */}}
{{- define "highwater.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- $number := regexFind "^[0-9]+" $text -}}
{{- $unit := trimPrefix $number $text -}}
{{- mul (int64 $number) (int64 (ternary 1 (get $units $unit) (eq $unit ""))) -}}
{{- end -}}

{{/* The Secret of a listener's certificate. Takes a list: the root, the listener in lower case, its tls. */}}
{{- define "highwater.secret" -}}
{{- $tls := index . 2 -}}
{{- if $tls.issuerRef -}}{{ include "highwater.fullname" (index . 0) }}-{{ include "highwater.listener" (index . 1) }}-tls
{{- else -}}{{ $tls.existingSecret }}
{{- end -}}
{{- end -}}

{{/* The port that a broker tells clients outside. Takes a list: the external listener, the ordinal. */}}
{{- define "highwater.externalPort" -}}
{{- $listener := index . 0 -}}
{{- if $listener.advertisedPort -}}{{ $listener.advertisedPort }}
{{- else if eq $listener.type "NodePort" -}}{{ include "highwater.nodePort" . }}
{{- else -}}{{ $listener.port }}
{{- end -}}
{{- end -}}

{{/* A node port; without an ordinal, what the node ports of all brokers follow from. Takes a list: the external
listener, the ordinal or "${env:POD_INDEX}". */}}
{{- define "highwater.nodePort" -}}
{{- $listener := index . 0 -}}
{{- $ordinal := index . 1 -}}
{{- if kindIs "string" $ordinal -}}{{ default (list $listener.firstNodePort) $listener.nodePorts | toJson }}
{{- else if $listener.nodePorts -}}{{ int (index $listener.nodePorts $ordinal) }}
{{- else -}}{{ add (int $listener.firstNodePort) $ordinal }}
{{- end -}}
{{- end -}}

{{/* The name of a listener in names of objects and ports. */}}
{{- define "highwater.listener" -}}
{{ lower . | replace "_" "-" }}
{{- end -}}
