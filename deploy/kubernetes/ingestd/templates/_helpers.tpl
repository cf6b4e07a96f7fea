{{- define "ingestd.name" -}}
{{- /* A pod's name is this and at most 18 more, and static membership makes it an id. */ -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 45 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ingestd.selector" -}}
app.kubernetes.io/name: ingestd
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "ingestd.labels" -}}
{{ include "ingestd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The collector's pods are selected by another name, so that neither's objects find the other's. */ -}}
{{- define "ingestd.collect.name" -}}
{{ include "ingestd.name" . }}-collect
{{- end }}

{{- define "ingestd.collect.selector" -}}
app.kubernetes.io/name: ingestd-collect
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "ingestd.collect.labels" -}}
{{ include "ingestd.labels" . | replace "app.kubernetes.io/name: ingestd\n" "app.kubernetes.io/name: ingestd-collect\n" }}
{{- end }}

{{- define "ingestd.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "ingestd.name" .) .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "ingestd.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "ingestd.podSecurity" -}}
runAsNonRoot: true
{{- range $key, $id := .Values.podSecurity }}
{{- if not (kindIs "invalid" $id) }}
{{ $key }}: {{ int $id }}
{{- end }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ingestd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The environment goes before the file, so that what the chart itself rests on cannot be set otherwise in it. */ -}}
{{- define "ingestd.environment" -}}
{{ include "ingestd.processEnvironment" . }}
{{ include "ingestd.sinkEnvironment" . }}
{{- with .Values.sink.lineage }}
- {name: INGESTD__SINK__LINEAGE, value: {{ . | quote }}}
{{- end }}
- {name: INGESTD__SOURCE, value: {{ .Values.source }}}
{{- if eq .Values.source "kinesis" }}
- {name: INGESTD__KINESIS__STREAM, value: {{ .Values.kinesis.stream | quote }}}
- name: INGESTD__KINESIS__MEMBER_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with .Values.aws.region }}
- {name: INGESTD__KINESIS__REGION, value: {{ . | quote }}}
{{- end }}
{{- else if eq .Values.source "sqs" }}
- {name: INGESTD__SQS__QUEUE_URL, value: {{ .Values.sqs.queueUrl | quote }}}
{{- with .Values.aws.region }}
- {name: INGESTD__SQS__REGION, value: {{ . | quote }}}
{{- end }}
{{- else }}
{{ include "ingestd.kafkaEnvironment" . }}
- {name: INGESTD__KAFKA__TOPICS, value: {{ join "," .Values.kafka.topics | quote }}}
- {name: INGESTD__KAFKA__GROUP_ID, value: {{ .Values.kafka.groupId | quote }}}
{{- if eq .Values.workload "StatefulSet" }}
- name: INGESTD__KAFKA__GROUP_INSTANCE_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- include "ingestd.registryEnvironment" . }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ingestd.sinkEnvironment" -}}
- {name: INGESTD__SINK__URL, value: {{ .Values.sink.url | quote }}}
{{- with .Values.aws.region }}
- {name: INGESTD__S3__REGION, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "ingestd.collect.config" -}}
{{- /* One process has both parts; a table that is in both is refused by name when it starts. */ -}}
{{- if eq .Values.source "collector" }}{{ printf "%s\n%s" .Values.config .Values.collect.config }}
{{- else }}{{ .Values.collect.config }}{{ end }}
{{- end }}

{{- define "ingestd.collect.environment" -}}
{{- $collect := .Values.collect -}}
{{- $alone := eq .Values.source "collector" -}}
{{ include "ingestd.processEnvironment" . }}
- {name: INGESTD__SOURCE, value: {{ ternary "collector" "kafka" $alone }}}
{{- if not $alone }}
{{ include "ingestd.kafkaEnvironment" . }}
{{- end }}
{{- if $alone }}
{{ include "ingestd.sinkEnvironment" . }}
# Each journal has a chain of objects of its own.
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: INGESTD__SINK__LINEAGE, value: "$(POD_NAME){{ with .Values.sink.lineage }}-{{ . }}{{ end }}"}
{{- end }}
- {name: INGESTD__COLLECT__HOST, value: "::"}
- {name: INGESTD__COLLECT__PORT, value: "8080"}
- {name: INGESTD__COLLECT__TOPIC, value: {{ $collect.topic | quote }}}
{{- with $collect.publicUrl }}
- {name: INGESTD__COLLECT__PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- if or $alone $collect.journal.enabled }}
- {name: INGESTD__COLLECT__JOURNAL, value: /var/lib/ingestd/journal.sqlite}
- {name: INGESTD__COLLECT__JOURNAL_BYTES, value: {{ $collect.journal.bytes | quote }}}
{{- else }}
- {name: INGESTD__COLLECT__JOURNAL, value: ""}
{{- end }}
{{- range $extra := list (ternary .Values.extraEnv list $alone) $collect.extraEnv }}
{{- with $extra }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ingestd.processEnvironment" -}}
- {name: INGESTD_CONFIG, value: /etc/ingestd/ingestd.toml}
- {name: INGESTD__GRACE, value: "{{ int .Values.graceSeconds }}s"}
- {name: INGESTD__HEALTH__ENABLED, value: "true"}
- {name: INGESTD__HEALTH__HOST, value: "::"}
- {name: INGESTD__HEALTH__PORT, value: "9464"}
- {name: INGESTD__LOG__FORMAT, value: json}
- {name: INGESTD__LOG__LEVEL, value: {{ .Values.logLevel }}}
{{- end }}

{{- define "ingestd.kafkaEnvironment" -}}
{{- $kafka := .Values.kafka -}}
- {name: INGESTD__KAFKA__BOOTSTRAP_SERVERS, value: {{ join "," $kafka.bootstrapServers | quote }}}
- {name: INGESTD__KAFKA__SECURITY_PROTOCOL, value: {{ ternary "SASL_" "" (or (ne $kafka.sasl.secret "") (eq $kafka.sasl.mechanism "AWS_MSK_IAM")) }}{{ ternary "SSL" "PLAINTEXT" $kafka.tls.enabled }}}
- name: INGESTD__KAFKA__CLIENT_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with $kafka.sasl }}
{{- if eq .mechanism "AWS_MSK_IAM" }}
{{- if or .secret (not $kafka.tls.enabled) }}
{{- fail "kafka.sasl.mechanism = AWS_MSK_IAM needs kafka.tls.enabled, and takes no kafka.sasl.secret: give the service account a role" }}
{{- end }}
- {name: INGESTD__KAFKA__SASL_MECHANISM, value: {{ .mechanism }}}
{{- with $.Values.aws.region }}
- {name: INGESTD__KAFKA__IAM_REGION, value: {{ . | quote }}}
{{- end }}
{{- else if .secret }}
- {name: INGESTD__KAFKA__SASL_MECHANISM, value: {{ .mechanism }}}
{{- $oauth := eq .mechanism "OAUTHBEARER" }}
- name: INGESTD__KAFKA__{{ ternary "OAUTH_CLIENT_ID" "SASL_USERNAME" $oauth }}
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .usernameKey | quote }}}}
- {name: INGESTD__KAFKA__{{ ternary "OAUTH_CLIENT_SECRET_FILE" "SASL_PASSWORD_FILE" $oauth }}, value: /run/secrets/kafka/password}
{{- end }}
{{- end }}
{{- if and $kafka.tls.enabled $kafka.tls.caSecret }}
- {name: INGESTD__KAFKA__SSL_CA_FILE, value: /run/secrets/kafka-ca/ca.crt}
{{- end }}
{{- end }}

{{- define "ingestd.registryEnvironment" -}}
{{- with .Values.kafka.valueFormat }}
- {name: INGESTD__KAFKA__VALUE_FORMAT, value: {{ . }}}
{{- end }}
{{- with .Values.registry }}
{{- if .urls }}
- {name: INGESTD__REGISTRY__URLS, value: {{ join "," .urls | quote }}}
{{- end }}
{{- if and .secret .tokenKey }}
- {name: INGESTD__REGISTRY__TOKEN_FILE, value: /run/secrets/registry/token}
{{- else if .secret }}
- name: INGESTD__REGISTRY__USERNAME
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .usernameKey | quote }}}}
- {name: INGESTD__REGISTRY__PASSWORD_FILE, value: /run/secrets/registry/password}
{{- end }}
{{- if .caSecret }}
- {name: INGESTD__REGISTRY__SSL_CA_FILE, value: /run/secrets/registry-ca/ca.crt}
{{- end }}
{{- end }}
{{- end }}

{{- define "ingestd.registryMounts" -}}
{{- if .Values.registry.secret }}
- {name: registry, mountPath: /run/secrets/registry, readOnly: true}
{{- end }}
{{- if .Values.registry.caSecret }}
- {name: registry-ca, mountPath: /run/secrets/registry-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "ingestd.registryVolumes" -}}
{{- with .Values.registry }}
{{- if .secret }}
- name: registry
  secret:
    secretName: {{ .secret | quote }}
    defaultMode: 0440
    items: [{key: {{ default .passwordKey .tokenKey | quote }}, path: {{ ternary "token" "password" (ne .tokenKey "") }}}]
{{- end }}
{{- if .caSecret }}
- name: registry-ca
  secret:
    secretName: {{ .caSecret | quote }}
    items: [{key: {{ .caKey | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end }}

{{- define "ingestd.volumeMounts" -}}
{{ include "ingestd.ownMounts" . }}
{{- include "ingestd.registryMounts" . }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ingestd.ownMounts" -}}
{{- $kafka := .Values.kafka -}}
- {name: config, mountPath: /etc/ingestd, readOnly: true}
{{- if ne .Values.source "collector" }}
{{- if $kafka.sasl.secret }}
- {name: kafka, mountPath: /run/secrets/kafka, readOnly: true}
{{- end }}
{{- if and $kafka.tls.enabled $kafka.tls.caSecret }}
- {name: kafka-ca, mountPath: /run/secrets/kafka-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "ingestd.volumes" -}}
- name: config
  configMap: {name: {{ include "ingestd.name" . }}}
{{- include "ingestd.kafkaVolumes" . }}
{{- include "ingestd.registryVolumes" . }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ingestd.kafkaVolumes" -}}
{{- $kafka := .Values.kafka -}}
{{- if ne .Values.source "collector" }}
{{- if $kafka.sasl.secret }}
- name: kafka
  secret:
    secretName: {{ $kafka.sasl.secret | quote }}
    defaultMode: 0440
    items: [{key: {{ $kafka.sasl.passwordKey | quote }}, path: password}]
{{- end }}
{{- if and $kafka.tls.enabled $kafka.tls.caSecret }}
- name: kafka-ca
  secret:
    secretName: {{ $kafka.tls.caSecret | quote }}
    items: [{key: {{ $kafka.tls.caKey | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end }}

{{- define "ingestd.egress" -}}
- ports:  # names
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- $ports := list }}
{{- range .Values.kafka.bootstrapServers }}
{{- $ports = append $ports (regexFind "[0-9]+$" .) }}
{{- end }}
{{- if eq .Values.source "collector" }}{{ $ports = list }}{{ end }}
{{- with uniq $ports }}
- ports:  # brokers: those that are asked first name the others, whose addresses are not known here
    {{- range . }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- $registry := list }}
{{- if eq .Values.source "kafka" }}
{{- range .Values.registry.urls }}
{{- $url := urlParse . }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) }}
{{- if not (has $port ($.Values.networkPolicy.httpsPorts | toStrings)) }}
{{- $registry = append $registry $port }}
{{- end }}
{{- end }}
{{- end }}
{{- with uniq $registry }}
- ports:  # the schema registry
    {{- range . }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- with .Values.networkPolicy.httpsPorts }}
- ports:
    {{- range . }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}{{ toYaml . | nindent 0 }}{{ end }}
{{- end }}

{{- define "ingestd.probes" -}}
{{ include "ingestd.liveness" . }}
{{ include "ingestd.readiness" . }}
{{- end }}

{{- define "ingestd.liveness" -}}
# A loop that hangs answers nothing, and a restart helps. A store or a broker that is away never fails this.
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
{{- end }}

{{- define "ingestd.readiness" -}}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- define "ingestd.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
