-- wrk -s post.lua URL -- BODY_FILE BODIES CONTENT_TYPE KEY: posts the bodies in turn, prints one line of JSON at the end.
-- BODY_FILE holds BODIES bodies, one per line; with 1 it is the whole file, whatever is in it. KEY may be empty.
local requests, sent = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[3]
  if args[4] and args[4] ~= "" then wrk.headers["X-API-Key"] = args[4] end
  if args[2] == "1" then
    requests[1] = wrk.format(nil, nil, nil, text)
  else
    for line in text:gmatch("[^\n]+") do requests[#requests + 1] = wrk.format(nil, nil, nil, line) end
  end
end

function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'JSON {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
