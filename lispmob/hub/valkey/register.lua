-- One record of a Map-Register in one step: the nonces, the registration, the log of its bucket, word to the other hubs.
-- The times are the server's. Nonces are compared as two numbers of 32 bits: numbers of Lua have 53, and its strings are
-- compared by the locale.
--
-- KEYS  r{b}E the registration, n{b}E the last nonces, q{b} the count of changes, l{b} the log, x{b} what runs out when
-- ARGV  1 E   2 nonce (8 octets)   3 flags, below   4 lifetime in ms   5 the part (empty: withdraw), times left blank
--       6 the xTR: its xTR-ID or address   7 parts of other xTRs that stay   8 the former value that 7 was made from
--       9 milliseconds that the value is kept   10 channel   11 hub (8 octets)   12... owners (8 octets each)
-- Answer: code (0 old nonce, 1 the same, 2 changed, 3 to be decided by the hub), time, count of changes, former value
local MUST_GROW, GROW_IF_COUNTING, NAMED, MERGED, DECIDED = 1, 2, 4, 8, 16
local PART_MERGED, PART_SITE_ID, PART_NAMED = 2, 8, 16
local DAYS_30, OVERTAKING_S, LOG, FIRST_OCTETS = 2592000, 1, 512, 39

local E, nonce, flags, life_s = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]) / 1000
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local old = redis.call('GET', KEYS[1])

local function has(bit_) return bit.band(flags, bit_) ~= 0 end

local function answer(code)
  local count = tonumber(redis.call('GET', KEYS[3]) or '0')
  return code .. struct.pack('>dI8', now, count) .. (old or '')
end

local function difference(a, b) -- of two nonces: nil when a is not newer, else whether it is a step of less than 2^32
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  if a_high < b_high or (a_high == b_high and a_low <= b_low) then return nil end
  return a_high == b_high or (a_high == b_high + 1 and a_low < b_low)
end

local function head(part) -- octets of the source, flags, nonce, xTR
  local octets, its = string.byte(part, 25), string.byte(part, 26)
  local at = 36
  local xtr = string.sub(part, at, at + octets - 1)
  if bit.band(its, PART_NAMED) ~= 0 then
    at = at + octets
    if bit.band(its, PART_SITE_ID) ~= 0 then at = at + 8 end
    xtr = string.sub(part, at, at + 15)
  end
  return octets, its, string.sub(part, 28, 35), xtr
end

local function said(part) -- flags and all behind the source: what is the same where nothing changed
  local octets = string.byte(part, 25)
  return string.sub(part, 26, 26) .. string.sub(part, 36 + octets)
end

local former, is_only = nil, true -- what this xTR said before
if old then
  local at, parts = 1, 0
  while old and at <= #old do
    local size = at < #old and struct.unpack('>I2', old, at) or 0
    if size < FIRST_OCTETS or at + 1 + size > #old then -- damaged: as good as none
      old, former = nil, nil
      break
    end
    local part = string.sub(old, at + 2, at + 1 + size)
    local _, _, _, xtr = head(part)
    if xtr == ARGV[6] then former = part end
    at, parts = at + 2 + size, parts + 1
  end
  is_only = parts <= 1
end

-- The nonce has to be newer than those of its own kind, and than those of the other kind but for a second
local own, other = 'u', 'n'
if has(NAMED) then own, other = 'x' .. ARGV[6], 'u' end
local seen_counting = false
for index = 12, #ARGV do
  local owner = ARGV[index]
  local counts = redis.call('HMGET', KEYS[2], owner .. own, owner .. other)
  for kind = 1, 2 do
    local count = counts[kind]
    if count and not (kind == 2 and has(NAMED) and has(MERGED)) then
      local last, at, counting = string.sub(count, 1, 8), struct.unpack('>dB', count, 9)
      if difference(nonce, last) == nil and (has(MUST_GROW) or (has(GROW_IF_COUNTING) and counting == 1)) then
        if kind == 1 and last == nonce and former and string.sub(former, 28, 35) == nonce and
          said(former) == said(ARGV[5] ~= '' and ARGV[5] or former) and ARGV[5] ~= '' then
          return answer('1') -- the same register once more
        end
        if kind == 1 or now - at >= OVERTAKING_S then return answer('0') end
      end
      if kind == 1 and index == 12 then
        local step = difference(nonce, last)
        seen_counting = counting == 1 or (step == true and last ~= nonce)
      end
    end
  end
end

-- Several xTRs, or another node: the hub decides, and comes again with what it decided from
if has(DECIDED) then
  if (old or '') ~= ARGV[8] then return answer('3') end
elseif old then
  local _, its, _, xtr = head(string.sub(old, 3))
  local is_other = has(NAMED) and bit.band(its, PART_NAMED) ~= 0 and xtr ~= ARGV[6]
  if not is_only or has(MERGED) or bit.band(its, PART_MERGED) ~= 0 or is_other then return answer('3') end
end

local count = nonce .. struct.pack('>dB', now, seen_counting and 1 or 0)
redis.call('HSET', KEYS[2], ARGV[12] .. own, count)
if has(NAMED) and not has(MERGED) then redis.call('HSET', KEYS[2], ARGV[12] .. 'n', count) end
redis.call('EXPIRE', KEYS[2], DAYS_30)

-- A node that counts on from its last register goes on; one that jumps has started again, and its peers hear of it
local goes_on = not has(NAMED)
if former then
  local last = string.sub(former, 28, 35)
  goes_on = goes_on or nonce == last or difference(nonce, last) == true
end

local value, part = ARGV[7], ''
if ARGV[5] ~= '' then
  local interval = 0
  if former then
    local _, heard = struct.unpack('>dd', former)
    interval = now - heard
  end
  part = struct.pack('>ddd', now + life_s, now, interval) .. string.sub(ARGV[5], 25)
  value = value .. struct.pack('>I2', #part) .. part
end
if value == '' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[5], E)
  if not old then return answer('1') end
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[9])
  if former and part ~= '' and goes_on and said(former) == said(part) and #old == #value + #former - #part then
    local runs_out, heard = struct.unpack('>dd', former)
    local is_shorter = life_s < runs_out - heard - 1
    if is_shorter then redis.call('ZADD', KEYS[5], now + life_s, E) end
    return answer('1')
  end
  redis.call('ZADD', KEYS[5], 'LT', now + life_s, E)
end

local kind = 'r'
if value == '' then
  kind = 'w'
elseif old and (part == '' or goes_on) then
  kind = 'm'
end
local changes = redis.call('INCR', KEYS[3])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', LOG, changes .. '-1', 'E', E)
redis.call('SPUBLISH', ARGV[10], struct.pack('>I8d', changes, now) .. kind .. ARGV[11] .. struct.pack('>I2', #E) .. E .. value)
return answer('2')
