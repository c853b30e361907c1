-- What wrk sends, and what it tells at the end: answers, and those that were none.
wrk.method = "POST"
wrk.path = "/calls/check"
wrk.body = os.getenv("PEERS_BODY")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("PEERS_TOKEN")

function done(summary, latency)
    local errors = summary.errors
    local lost = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format(
        "RESULT %d %d %d %d %d\n",
        summary.requests, errors.status, lost, latency:percentile(50), latency:percentile(99)
    ))
end
