-- A subscription (RFC 9437) as the servers have it: whoever publishes for it is the hub that its value begins with.
-- KEYS  s{b} the subscriptions of the bucket
-- ARGV  1 whose: E and xTR-ID   2 the hub that has to have it (empty: whoever has)   3 the value (empty: it is over)
--       4 milliseconds that any of the bucket lives   5 channel   6 word to the other hubs (empty: none)
--       7 whether it has to be there (1; else what a server has forgotten is written again)
-- Answer: 1 done, 0 another hub has it, or it is not there
local former = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[7] == '1' and not former then return 0 end
if ARGV[2] ~= '' and former and string.sub(former, 1, 8) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
if ARGV[6] ~= '' then redis.call('SPUBLISH', ARGV[5], ARGV[6]) end
return 1
