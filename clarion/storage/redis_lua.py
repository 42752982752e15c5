"""The scripts: what must happen in one step, by the server's clock. Times are in microseconds."""

from __future__ import annotations

from clarion.storage.redis_script import Script

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

BEAT = Script(
    _NOW
    + """
-- A node is there. KEYS: nodes, beats, circuits. ARGV: node, what it says of itself, microseconds
-- until who is silent is gone, milliseconds until all is forgotten. Returns all that is known.
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
for _, node in ipairs(gone) do
  redis.call('ZREM', KEYS[2], node)
  redis.call('HDEL', KEYS[1], node)
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {now, redis.call('ZRANGE', KEYS[2], 0, -1), redis.call('HGETALL', KEYS[1]),
        redis.call('HVALS', KEYS[3])}
"""
)

LEAVE = Script(
    """
-- A node goes, and says so. KEYS: nodes, beats, channel. ARGV: node.
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[3], 'left ' .. ARGV[1])
"""
)

TELL = Script(
    _NOW
    + """
-- News of a circuit. KEYS: circuits, channel. ARGV: topic, its words before the instants,
-- microseconds that remain, milliseconds until all is forgotten.
local line = string.format('%s %.6f %.6f', ARGV[2], now / 1000000, (now + ARGV[3]) / 1000000)
redis.call('HSET', KEYS[1], ARGV[1], line)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', KEYS[2], line)
"""
)

TAKE = Script(
    _NOW
    + """
-- Places on the schedule of a rate limit: GCRA, with the next place due at `due`.
-- KEYS: schedule, memory. ARGV: node, n, gap, slack, guard, horizon, quiet, ahead, is_drained.
-- Returns now, how many, and the instant of the first; those that follow are a gap apart each, and
-- what lies before now + ahead is then. None: the instant at which to ask again.
local node, n = ARGV[1], tonumber(ARGV[2])
local gap, slack, guard = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local horizon, quiet, ahead = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

-- Another life of the server, or a flush: it may have forgotten what it gave.
local info = redis.pcall('INFO', 'server')
local life = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or '-'
local known = redis.call('HMGET', KEYS[2], 'life', 'born')
local born = tonumber(known[2] or '')
if known[1] ~= life or not born or born > now then
  born = now
  redis.call('HSET', KEYS[2], 'life', life, 'born', string.format('%.0f', now))
end
local empty = slack + gap

local function keep(due, last)
  redis.call('SET', KEYS[1], string.format('%.0f %s', math.ceil(due), last),
             'PX', math.max(1, math.ceil((due + guard - now) / 1000)) + 1)
end

local due, last = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%S+)$')
due = tonumber(due or '')
if due and due > now + horizon + quiet + empty + gap then
  -- No schedule of ours is so far ahead: it is garbled, or the clock was set back.
  due, last = now + quiet + empty, '-'
  keep(due, last)
end
if ARGV[9] == '1' then
  due, last = math.max(due or 0, now + empty), last or '-'
  keep(due, last)
end
if due and last ~= node then due = due + guard end

local start = math.max(due or 0, born + quiet + empty, now + ahead)
local first = start - slack
if first > now + horizon then
  return {now, 0, math.ceil(first - horizon)}
end
keep(start + n * gap, node)
return {now, n, math.ceil(first)}
"""
)
