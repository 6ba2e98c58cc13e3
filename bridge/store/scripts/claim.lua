-- Leases lanes of one shard that are due, the longest due first, and hands out the head of each.
-- Source: architecture, "Lanes". A lane's time in `lanes` is the end of its lease while it is leased, so that a lane
-- whose worker died comes due by itself.
--
-- KEYS  1 lanes  2 leases  3 epoch  4 clock
-- ARGV  1 now, ms (0: this server's clock)   2 how many at most   3 lease, ms   4 wait for a hand-over, ms
--       5 what the shard's keys begin with   6 a word that no other claim has
-- Returns how many more lanes of the shard are due, then a flat list: pair, epoch, id, effect, attempts (this one
-- included), created, doubt, age in ms; again for each lane. The age is told, since a worker's clock may differ from
-- the one that `created` was read off.
-- doubt is 1 when an attempt before this one may have been carried out: it came to an unknown end, or it was never
-- settled, since its worker died or was stopped beyond its lease.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
-- Where memory is full, Redis refuses a script whose first write needs some. What is delivered makes room.
redis.call('HDEL', KEYS[2], '')
-- The clock may go back: it is set right, or a failover leads to a server with another one. Lanes would then be due,
-- and leases over, as much later as it went back; so what lies further ahead than a lease goes back with it. How late
-- it was is written down once a lease and no oftener, and where there are lanes: a bridge at rest is to write nothing.
local lease = tonumber(ARGV[3])
local was = tonumber(redis.call('GET', KEYS[4]) or 0)
local back = was - now
if back > lease then
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now + lease, '+inf', 'WITHSCORES')
  for at = 1, #ahead, 2 do redis.call('ZADD', KEYS[1], ahead[at + 1] - back, ahead[at]) end
end
if math.abs(back) > lease and redis.call('EXISTS', KEYS[1]) == 1 then redis.call('SET', KEYS[4], now) end
local out, epoch = {0}, nil
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local id = redis.pcall('LINDEX', ARGV[5] .. 'lane:' .. lane, 0)
  local key = type(id) == 'string' and ARGV[5] .. 'delivery:' .. id
  local held = key and redis.pcall('HMGET', key, 'after', 'effect', 'created', 'doubt')
  if type(id) == 'table' or held and held.err then
    -- An error: a cluster is moving the slot, and what this lane needs is at its new node already. Due again there.
    redis.call('ZADD', KEYS[1], now + lease, lane)
  elseif not id then
    redis.call('ZREM', KEYS[1], lane)
    redis.call('HDEL', KEYS[2], lane)
  elseif held[1] and held[1] ~= '' then
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), lane)
    redis.call('HDEL', KEYS[2], lane)
  else
    local doubt = held[4] or '0'
    if redis.call('HEXISTS', KEYS[2], lane) == 1 then
      redis.call('HSET', key, 'doubt', '1')
      doubt = '1'
    end
    -- One of all lanes of this claim. The word, since a failover can take the counter back: a lease that was lost with it
    -- is not this one.
    epoch = epoch or redis.call('INCR', KEYS[3]) .. '-' .. ARGV[6]
    redis.call('HSET', KEYS[2], lane, epoch)
    redis.call('ZADD', KEYS[1], now + lease, lane)
    local attempts = redis.call('HINCRBY', key, 'attempts', 1)
    local created = tonumber(held[3] or now)
    for _, value in ipairs({lane, epoch, id, held[2] or '', attempts, created, doubt, now - created}) do
      out[#out + 1] = value
    end
  end
end
out[1] = redis.call('ZCOUNT', KEYS[1], '-inf', now)
return out
