//! What a job should cost: the price list, quotes in dollars and coins, and the checks of a payment before it is sent.
//!
//! Owns arithmetic on whole micro-dollars and base units; every conversion rounds up, in favour of those who work.
//! Never looks up a price: dollars per coin and gas prices are arguments. There are no floating-point numbers here.

mod list;
mod payment;
mod quote;

pub use list::{Dollars, DollarsError, GpuTier, PriceList, Resources};
pub use payment::{PaymentError, TokenLimits, price_per_replica};
pub use quote::{Gas, Quote, QuoteError, quote};
