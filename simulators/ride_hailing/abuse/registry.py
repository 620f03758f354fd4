"""Every way to cheat that the world plays, in the order in which they get hold of a day's trips."""

from __future__ import annotations

from simulators.ride_hailing.abuse.account_rental import AccountRental
from simulators.ride_hailing.abuse.account_takeover import AccountTakeover
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.abuse.collusion import Collusion
from simulators.ride_hailing.abuse.fare_manipulation import FareManipulation
from simulators.ride_hailing.abuse.gps_spoofing import GpsSpoofing
from simulators.ride_hailing.abuse.multi_accounting import MultiAccounting
from simulators.ride_hailing.abuse.off_platform import OffPlatform
from simulators.ride_hailing.abuse.refund_abuse import RefundAbuse
from simulators.ride_hailing.abuse.stolen_card import StolenCard
from simulators.ride_hailing.abuse.wallet_non_payment import WalletNonPayment

SCHEMES: tuple[type[Scheme], ...] = (
    Collusion,
    MultiAccounting,
    GpsSpoofing,
    AccountTakeover,
    StolenCard,
    WalletNonPayment,
    OffPlatform,
    FareManipulation,
    AccountRental,
    RefundAbuse,
)
