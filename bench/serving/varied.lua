-- For wrk: a request of another key each time. Arguments: file of bodies, token, path, method (POST).
-- wrk -t1 -c8 -d10s -s varied.lua http://127.0.0.1:PORT -- bodies.jsonl TOKEN /v1/predict/cost
local requests, at = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  if arguments[2] ~= "" then headers["Authorization"] = "Bearer " .. arguments[2] end
  local method = arguments[4] or "POST"
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format(method, arguments[3], headers, method == "POST" and line or nil)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
