<?php
// A session of PHP's, locked while a request has it (redis.session.locking_enabled), over phpredis.
[$path, $user, $password] = array_map('getenv', ['REDIS_SOCKET', 'REDIS_USERNAME', 'REDIS_PASSWORD']);
$say = fn ($said) => exit("phpredis with locking: $said\n");
set_error_handler(fn ($level, $text) => $say($text));
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');
ini_set('session.save_handler', 'redis');
ini_set('session.save_path', "unix://$path?auth[user]=$user&auth[pass]=$password");
ini_set('redis.session.locking_enabled', '1');
session_id(bin2hex(random_bytes(8)));
session_start();
$redis = new Redis();
$redis->connect($path);
$redis->auth([$user, $password]);
$lock = 'PHPREDIS_SESSION:' . session_id() . '_LOCK';
$redis->exists($lock) || $say('it is not locked');
$_SESSION['n'] = 42;
session_write_close();
$redis->exists($lock) && $say('the lock is not given back (EVAL)');
$_SESSION = [];
session_start();
$say($_SESSION['n'] === 42 ? 'works' : 'the session is not there');
