-- A registration as it is now. KEYS r{b}E, q{b}. Answer: '1', time, count of changes, value
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
return '1' .. struct.pack('>dI8', now, tonumber(redis.call('GET', KEYS[2]) or '0')) .. (redis.call('GET', KEYS[1]) or '')
