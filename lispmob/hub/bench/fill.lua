-- Many registrations of one bucket as register.lua writes them, for measurements.
-- KEYS x{b}   ARGV 1 r{b}  2 n{b}  3 a part  4, 5 where its xTR-ID and EID are  6 the first EID  7 owner  8 numbers, 4 octets each
local part, xtr_at, eid_at, first = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local times = struct.pack('>ddd', now + 180, now, 60)
local count = struct.pack('>I8dB', 1, now, 1)
local before, between, after = string.sub(part, 25, xtr_at), string.sub(part, xtr_at + 17, eid_at), string.sub(part, eid_at + 5)
for at = 1, #ARGV[8], 4 do
  local number = struct.unpack('>I4', ARGV[8], at)
  local eid, xtr = struct.pack('>I4', first + number), struct.pack('>I8I8', 0, number + 1)
  local E = struct.pack('>I4B', 0, 32) .. eid
  local made = times .. before .. xtr .. between .. eid .. after
  redis.call('SET', ARGV[1] .. E, struct.pack('>I2', #made) .. made, 'PX', 7200000)
  redis.call('HSET', ARGV[2] .. E, ARGV[7] .. 'x' .. xtr, count, ARGV[7] .. 'n', count)
  redis.call('EXPIRE', ARGV[2] .. E, 2592000)
  redis.call('ZADD', KEYS[1], now + 180, E)
end
return #ARGV[8] / 4
