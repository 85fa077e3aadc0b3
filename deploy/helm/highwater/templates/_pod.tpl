{{/* The pod of a StatefulSet. Takes a list: the root, the component, the checksum of the configuration, the file. */}}
{{- define "highwater.pod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $own := index $root.Values $component -}}
{{- $store := $root.Values.objectStorage -}}
{{- $isBroker := eq $component "broker" -}}
metadata:
  labels:
    {{- include "highwater.selector" (list $root $component) | nindent 4 }}
    {{- with merge (dict) $own.podLabels $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    highwater/config-checksum: {{ index . 2 }}
    {{- with merge (dict) $own.podAnnotations $root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "highwater.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- if $own.affinity }}
    {{- toYaml $own.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "highwater.selector" (list $root $component) | nindent 16 }}
    {{- end }}
  topologySpreadConstraints:
    {{- /* without a selector a constraint would count no pod */}}
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "highwater.selector" (list $root $component) | fromYaml)) }}
    {{- range $own.topologySpreadConstraints }}
    - {{- merge (deepCopy .) $selector | toYaml | nindent 6 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "highwater.selector" (list $root $component) | nindent 10 }}
    {{- end }}
  containers:
    - name: highwater
      image: {{ include "highwater.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [start, --config, {{ index . 3 | quote }}]
      # the status of the pod has the end of the log of a start that fails
      terminationMessagePolicy: FallbackToLogsOnError
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - name: NODE_IP
          valueFrom: {fieldRef: {fieldPath: status.hostIP}}
        {{- if $isBroker }}
        {{- with $own.rack.label }}
        - name: ZONE
          valueFrom: {fieldRef: {fieldPath: {{ printf "metadata.labels['%s']" . | quote }}}}
        {{- end }}
        {{- else }}
        - name: POD_INDEX
          valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
        - name: NODE_ID
          value: 100$(POD_INDEX)
        {{- end }}
        {{- if $store.existingSecret }}
        {{- range $key, $isOptional := dict "AWS_ACCESS_KEY_ID" false "AWS_SECRET_ACCESS_KEY" false "AWS_SESSION_TOKEN" true }}
        - name: {{ $key }}
          valueFrom: {secretKeyRef: {name: {{ $store.existingSecret }}, key: {{ $key }}, optional: {{ $isOptional }}}}
        {{- end }}
        {{- end }}
        {{- with $own.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- if $isBroker }}
        - {name: internal, containerPort: {{ $root.Values.listeners.internal.port }}}
        {{- range $i, $listener := $root.Values.listeners.external }}
        - {name: external-{{ $i }}, containerPort: {{ $listener.port }}}
        {{- end }}
        {{- else }}
        - {name: controller, containerPort: {{ $root.Values.listeners.controller.port }}}
        {{- end }}
        - {name: admin, containerPort: 9644}
      startupProbe:
        httpGet: {path: /health/live, port: admin}
        periodSeconds: 1
        failureThreshold: 60
      readinessProbe:
        httpGet: {path: /health/ready, port: admin}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      # the process alone: an outage of the store or of the controllers restarts nothing
      livenessProbe:
        httpGet: {path: /health/live, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # Endpoints forget the pod meanwhile. SIGTERM then makes the broker hand its partitions over.
      lifecycle:
        preStop: {sleep: {seconds: {{ $own.preStopSleepSeconds }}}}
      resources:
        limits:
          memory: {{ $own.memory.limit }}
          {{- with dig "limits" "cpu" "" $own.resources }}
          cpu: {{ . }}
          {{- end }}
        requests:
          memory: {{ $own.memory.limit }}
          cpu: {{ dig "requests" "cpu" "100m" $own.resources }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/highwater/config, readOnly: true}
        - {name: data, mountPath: /var/lib/highwater}
        - {name: tmp, mountPath: /tmp}
        {{- if $store.ca.existingSecret }}
        - {name: store-ca, mountPath: /etc/highwater/store-ca, readOnly: true}
        {{- end }}
        {{- range $listener := include "highwater.tls" (list $root $component) | fromJsonArray }}
        - {name: tls-{{ $listener.name | replace "_" "-" }}, mountPath: /etc/highwater/tls/{{ $listener.name }}, readOnly: true}
        {{- end }}
        {{- with $own.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $own.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "highwater.fullname" $root }}-{{ $component }}}
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 16Mi}
    {{- if and $isBroker (eq $own.wal "object") }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if $store.ca.existingSecret }}
    - name: store-ca
      secret: {secretName: {{ $store.ca.existingSecret }}, items: [{key: {{ $store.ca.key }}, path: ca.crt}]}
    {{- end }}
    {{- range $listener := include "highwater.tls" (list $root $component) | fromJsonArray }}
    - name: tls-{{ $listener.name | replace "_" "-" }}
      secret:
        secretName: {{ $listener.secret }}
        defaultMode: 0440
        items:
          - {key: tls-combined.pem, path: tls-combined.pem}
          {{- if $listener.ca }}
          - {key: ca.crt, path: ca.crt}
          {{- end }}
    {{- end }}
    {{- with $own.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The listeners on TLS whose certificates a pod needs, as JSON: name, Secret, and whether clients show certificates, for
which the Secret needs ca.crt. Takes a list: the root, the component. */}}
{{- define "highwater.tls" -}}
{{- $root := index . 0 -}}
{{- $all := list -}}
{{- with $root.Values.listeners -}}
{{- if .controller.tls.enabled -}}
{{- $all = append $all (dict "name" "controller" "ca" true "secret" (include "highwater.secret" (list $root "controller" .controller.tls))) -}}
{{- end -}}
{{- if eq (index $ 1) "broker" -}}
{{- if .internal.tls.enabled -}}
{{- $all = append $all (dict "name" "internal" "ca" (ne .internal.tls.clientAuth "none") "secret" (include "highwater.secret" (list $root "internal" .internal.tls))) -}}
{{- end -}}
{{- range .external -}}
{{- if dig "tls" "enabled" false . -}}
{{- $all = append $all (dict "name" (lower .name) "ca" (ne (dig "tls" "clientAuth" "none" .) "none") "secret" (include "highwater.secret" (list $root (lower .name) .tls))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The claim of the data. Takes the component's values. */}}
{{- define "highwater.claim" -}}
- metadata: {name: data}
  spec:
    accessModes:
      {{- toYaml .persistence.accessModes | nindent 6 }}
    {{- with .persistence.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .persistence.size }}}}
{{- end -}}

{{/* A pod that runs one command of the image against the brokers. Takes a list: the root, its component, its args. */}}
{{- define "highwater.command" -}}
{{- $root := index . 0 -}}
restartPolicy: OnFailure
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* where brokers may run, it may run too */}}
{{- with $root.Values.broker.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.broker.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: highwater
    image: {{ include "highwater.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args:
      {{- toYaml (index . 2) | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      limits: {memory: 64Mi}
      requests: {cpu: 10m, memory: 64Mi}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
{{- end -}}
