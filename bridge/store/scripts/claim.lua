-- Leases lanes of one shard that are due, the longest due first, and hands out the head of each.
-- Source: architecture, "Lanes". A lane's time in `lanes` is the end of its lease while it is leased, so that a lane
-- whose worker died comes due by itself.
--
-- KEYS  1 lanes  2 leases  3 epoch
-- ARGV  1 now, ms (0: this server's clock)   2 how many at most   3 lease, ms   4 wait for a hand-over, ms
--       5 what the shard's keys begin with
-- Returns a flat list: pair, epoch, id, effect, attempts (this one included), created; again for each lane.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local out = {}
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local id = redis.call('LINDEX', ARGV[5] .. 'lane:' .. lane, 0)
  if not id then
    redis.call('ZREM', KEYS[1], lane)
    redis.call('HDEL', KEYS[2], lane)
  else
    local key = ARGV[5] .. 'delivery:' .. id
    local after = redis.call('HGET', key, 'after')
    if after and after ~= '' then
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), lane)
      redis.call('HDEL', KEYS[2], lane)
    else
      local epoch = redis.call('INCR', KEYS[3])
      redis.call('HSET', KEYS[2], lane, epoch)
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), lane)
      local attempts = redis.call('HINCRBY', key, 'attempts', 1)
      local held = redis.call('HMGET', key, 'effect', 'created')
      for _, value in ipairs({lane, epoch, id, held[1] or '', attempts, held[2] or now}) do out[#out + 1] = value end
    end
  end
end
return out
