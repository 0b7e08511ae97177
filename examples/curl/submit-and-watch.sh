#!/bin/sh
# Submits a job to jobql, asks for it once, and watches it to its end as server-sent events.
#
#     ./submit-and-watch.sh http://127.0.0.1:8080/graphql
#
# JOBQL_TOKEN is sent where it is set.
set -eu
url=${1:-http://127.0.0.1:8080/graphql}

# By standard input: what stands on a command line, everybody on the machine can read.
call() {
  printf '%s' "${JOBQL_TOKEN:+header = \"authorization: Bearer $JOBQL_TOKEN\"}" |
    curl -sS --fail-with-body --config - "$url" -H 'content-type: application/json' "$@"
}

post() { # query, variables
  call -d "{\"query\":\"$1\",\"variables\":$2}"
}

submitted=$(post 'mutation ($input: SubmitJobInput!) { submitJob(input: $input) { job { id status } } }' \
  '{"input":{"kind":"sum","payload":{"start":1,"end":4,"pauseSeconds":0.2}}}')
id=$(printf %s "$submitted" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
echo "submitted $id"

# Asked for once; with waitSeconds the answer comes when the job is finished.
post 'query ($id: ID!) { job(id: $id) { status queuePosition { position } } }' "{\"id\":\"$id\"}"
echo

# Watched: one event for each change, as it happens. -N keeps curl from gathering them.
call -N -H 'accept: text/event-stream' \
  -d "{\"query\":\"subscription (\$id: ID!) { jobUpdated(id: \$id) { version status result } }\",\"variables\":{\"id\":\"$id\"}}"
