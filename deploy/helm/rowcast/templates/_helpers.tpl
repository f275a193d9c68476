{{- define "rowcast.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* what Helm wants to find beside the labels that select */ -}}
{{- define "rowcast.labels" -}}
app.kubernetes.io/name: rowcast
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* a variable of a key of the secret */ -}}
{{- define "rowcast.secret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: { name: {{ .root.Values.secret.name }}, key: {{ .key }} }
{{- end }}

{{- define "rowcast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "rowcast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* A Deployment: of root, name, selects (labels), replicas (none: an autoscaler's), minReady, secrets (variable: key),
     settings, resources, and drains, whether sockets come to it. */ -}}
{{- define "rowcast.deployment" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- toYaml .selects | nindent 4 }}
    {{- include "rowcast.labels" .root | nindent 4 }}
spec:
  {{- with .replicas }}
  replicas: {{ . }}
  {{- end }}
  selector:
    matchLabels:
      {{- toYaml .selects | nindent 6 }}
  strategy:
    rollingUpdate: { maxUnavailable: 0, maxSurge: 1 }
  {{- with .minReady }}
  minReadySeconds: {{ . }}
  {{- end }}
  template:
    metadata:
      labels:
        {{- toYaml .selects | nindent 8 }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "9000"
        prometheus.io/path: /metrics
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      automountServiceAccountToken: false
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: 30
      securityContext:
        {{- include "rowcast.podSecurity" . | nindent 8 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- toYaml .selects | nindent 14 }}
      containers:
        - name: rowcast
          image: {{ include "rowcast.image" .root | quote }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: [serve]
          ports:
            - { name: http, containerPort: 8000 }
            - { name: admin, containerPort: 9000 }
          env:
            - { name: ROWCAST_LISTEN, value: "0.0.0.0:8000" }
            - { name: ROWCAST_ADMIN_LISTEN, value: "0.0.0.0:9000" }
            {{- $settings := merge (dict) (.settings | default dict) $values.settings (dict "ROWCAST_LOG_FORMAT" "json" "ROWCAST_DRAIN_SECONDS" "10") }}
            {{- range $name, $value := $settings }}
            - { name: {{ $name }}, value: {{ $value | quote }} }
            {{- end }}
            {{- range $name, $key := .secrets }}
            {{- if $key }}
            {{- include "rowcast.secret" (dict "root" $.root "name" $name "key" $key) | nindent 12 }}
            {{- end }}
            {{- end }}
          securityContext:
            {{- include "rowcast.containerSecurity" . | nindent 12 }}
          {{- /* the kubelet speaks neither TLS with our name nor the PROXY protocol */ -}}
          {{- $probed := ternary "admin" "http" (or (hasKey $settings "ROWCAST_TLS_CERTIFICATE") (hasKey $settings "ROWCAST_PROXY_PROTOCOL")) }}
          livenessProbe:
            httpGet: { path: /healthz, port: {{ $probed }} }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: { path: /readyz, port: {{ $probed }} }
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 2
          startupProbe:
            httpGet: { path: /healthz, port: {{ $probed }} }
            periodSeconds: 1
            failureThreshold: 30
          {{- if .drains }}
          lifecycle:
            preStop:
              sleep: { seconds: 5 }
          {{- end }}
          resources:
            {{- toYaml .resources | nindent 12 }}
          {{- with $values.volumeMounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with $values.volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
