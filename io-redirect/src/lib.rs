//! Redirected devices for lockstep services: clock, timers, random numbers, requests and TCP.
