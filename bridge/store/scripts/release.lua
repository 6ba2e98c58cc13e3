-- A hand-over is done: what waits for it in the new agent's lane may go, at once if it is the lane's head.
-- Source: architecture, "Shards" (a transfer is two commits).
--
-- KEYS  1 lanes  2 leases  3 lane
-- ARGV  1 now, ms (0: this server's clock)   2 the hand-over's id   3 the pair's name in lanes
--       4 what delivery keys begin with
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
-- Where memory is full, Redis refuses a script whose first write needs some. What is delivered makes room.
redis.call('HDEL', KEYS[2], '')
for place, id in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  if redis.call('HGET', ARGV[4] .. id, 'after') == ARGV[2] then
    redis.call('HSET', ARGV[4] .. id, 'after', '')
    if place == 1 and redis.call('HEXISTS', KEYS[2], ARGV[3]) == 0 then redis.call('ZADD', KEYS[1], now, ARGV[3]) end
  end
end
return 1
