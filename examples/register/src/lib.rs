//! A small register and queue service, for driving a pair and checking its history.
