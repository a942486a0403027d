-- The work of one bucket, for the hub that has its lease: end what ran out, and tell the others.
-- A refresh does not move its registration in x{b}: when its turn comes, it is put where it belongs by then.
--
-- KEYS  h{b} the lease, x{b} what runs out when, q{b} the count of changes, l{b} the log
-- ARGV  1 hub (8 octets)   2 milliseconds of a lease   3 how many at once   4 channel   5 what keys of registrations begin with
-- Answer: who has the lease (0 another hub, 1 this one), how many ended, how many were looked at
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, 0, 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local due, ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3]), 0
for _, E in ipairs(due) do
  local key = ARGV[5] .. E
  local value = redis.call('GET', key) or ''
  local rest, next_at, at = {}, nil, 1
  while at < #value do
    local size = struct.unpack('>I2', value, at)
    if size < 39 or at + 1 + size > #value then break end -- damaged
    local runs_out = struct.unpack('>d', value, at + 2)
    if runs_out > now then
      rest[#rest + 1] = string.sub(value, at, at + 1 + size)
      if not next_at or runs_out < next_at then next_at = runs_out end
    end
    at = at + 2 + size
  end
  local kept = table.concat(rest)
  if next_at then
    redis.call('ZADD', KEYS[2], next_at, E)
  else
    redis.call('ZREM', KEYS[2], E)
  end
  if #kept ~= #value or value == '' then
    if kept == '' then redis.call('DEL', key) else redis.call('SET', key, kept, 'KEEPTTL') end
    ended = ended + 1
    local changes = redis.call('INCR', KEYS[3])
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', 512, changes .. '-1', 'E', E)
    redis.call('SPUBLISH', ARGV[4], struct.pack('>I8d', changes, now) .. (kept == '' and 'e' or 'm') .. ARGV[1] ..
      struct.pack('>I2', #E) .. E .. kept)
  end
end
return {1, ended, #due}
