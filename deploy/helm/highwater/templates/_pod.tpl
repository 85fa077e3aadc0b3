{{/* The pod of a StatefulSet. Takes a list: the root, the component, the ConfigMap, the name of the file in it. */}}
{{- define "highwater.pod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $own := index $root.Values $component -}}
{{- $store := $root.Values.objectStorage -}}
{{- $isBroker := eq $component "broker" -}}
metadata:
  labels:
    {{- $selector := include "highwater.selector" (list $root $component) | fromYaml }}
    {{- merge (deepCopy $selector) $own.podLabels $root.Values.commonLabels | toYaml | nindent 4 }}
  annotations:
    {{- /* nothing in these volumes is missed when the cluster autoscaler evicts the pod */}}
    {{- $local := "tmp" }}
    {{- if and $isBroker (eq $own.wal "object") }}{{ $local = "data,tmp" }}{{ end }}
    {{- $evictable := dict "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" $local }}
    {{- merge (dict) $own.podAnnotations $root.Values.commonAnnotations $evictable | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "highwater.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
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
                {{- toYaml $selector | nindent 16 }}
    {{- end }}
  topologySpreadConstraints:
    {{- /* without a selector a constraint would count no pod */}}
    {{- $counted := dict "labelSelector" (dict "matchLabels" $selector) }}
    {{- range $own.topologySpreadConstraints }}
    {{- $constraint := . }}
    {{- if not (hasKey . "labelSelector") }}{{ $constraint = merge (dict) . $counted }}{{ end }}
    - {{- toYaml $constraint | nindent 6 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      {{- toYaml $counted | nindent 6 }}
    {{- if not $isBroker }}
    # One node must not take the quorum with it. Every node has this label, and one node alone may have all controllers;
    # a node that is dead or drained does not count.
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: DoNotSchedule
      nodeTaintsPolicy: Honor
      {{- toYaml $counted | nindent 6 }}
    {{- end }}
    {{- end }}
  containers:
    - name: highwater
      image: {{ include "highwater.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [start, --config, {{ printf "/etc/highwater/config/%s.properties" (index . 3) | quote }}]
      # the status of the pod has the end of the log of a start that fails
      terminationMessagePolicy: FallbackToLogsOnError
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - name: NODE_IP
          valueFrom: {fieldRef: {fieldPath: status.hostIP}}
        - name: POD_INDEX
          valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
        {{- if $isBroker }}
        {{- with $own.rack.label }}
        - name: ZONE
          valueFrom: {fieldRef: {fieldPath: {{ printf "metadata.labels['%s']" . | quote }}}}
        {{- end }}
        {{- else }}
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
        {{- range $root.Values.listeners.external }}
        - {name: {{ include "highwater.listener" .name }}, containerPort: {{ .port }}}
        {{- end }}
        {{- else }}
        - {name: controller, containerPort: {{ $root.Values.listeners.controller.port }}}
        {{- end }}
        - {name: admin, containerPort: 9644}
      startupProbe:
        httpGet: {path: /health/live, port: admin}
        periodSeconds: 1
        # longer than the four seconds after which /health/live answers 503
        timeoutSeconds: 5
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
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/highwater/config, readOnly: true}
        - {name: data, mountPath: /var/lib/highwater}
        - {name: tmp, mountPath: /tmp}
        {{- if $store.ca.existingSecret }}
        - {name: store-ca, mountPath: /etc/highwater/store-ca, readOnly: true}
        {{- end }}
        {{- range $listener := include "highwater.tls" (list $root $component) | fromJsonArray }}
        - {name: tls-{{ include "highwater.listener" $listener.name }}, mountPath: /etc/highwater/tls/{{ $listener.name }}, readOnly: true}
        {{- end }}
        {{- with $own.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $own.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ index . 2 }}}
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
    - name: tls-{{ include "highwater.listener" $listener.name }}
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

{{/* The pod of one command of the image for the brokers, without its restartPolicy. Takes a list: the root, the args,
and the ConfigMap with the topics or "". */}}
{{- define "highwater.command" -}}
{{- $root := index . 0 -}}
{{- $args := index . 1 -}}
{{- $topics := index . 2 -}}
{{- $isOnTls := $root.Values.listeners.internal.tls.enabled -}}
{{- if $isOnTls -}}
{{- $args = concat $args (list "--command-config" "/etc/highwater/client/client.properties") -}}
{{- end -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.broker.nodeSelector $root.Values.jobs.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.broker.tolerations $root.Values.jobs.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: highwater
    image: {{ include "highwater.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args:
      {{- toYaml $args | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      limits: {memory: 64Mi}
      requests: {cpu: 10m, memory: 64Mi}
    securityContext:
      {{- toYaml $root.Values.securityContext | nindent 6 }}
    {{- if or $topics $isOnTls }}
    volumeMounts:
      {{- if $topics }}
      - {name: topics, mountPath: /etc/highwater/topics, readOnly: true}
      {{- end }}
      {{- if $isOnTls }}
      - {name: client, mountPath: /etc/highwater/client, readOnly: true}
      - {name: tls-internal, mountPath: /etc/highwater/tls/internal, readOnly: true}
      {{- end }}
    {{- end }}
{{- if or $topics $isOnTls }}
volumes:
  {{- with $topics }}
  - name: topics
    configMap: {name: {{ . }}}
  {{- end }}
  {{- if $isOnTls }}
  - name: client
    configMap: {name: {{ include "highwater.fullname" $root }}-client}
  # optional: without ca.crt the pod starts, and its log says what is missing
  - name: tls-internal
    secret:
      secretName: {{ include "highwater.secret" (list $root "internal" $root.Values.listeners.internal.tls) }}
      optional: true
      defaultMode: 0440
      items:
        - {key: ca.crt, path: ca.crt}
        {{- if eq $root.Values.listeners.internal.tls.clientAuth "required" }}
        - {key: tls-combined.pem, path: tls-combined.pem}
        {{- end }}
  {{- end }}
{{- end }}
{{- end -}}
