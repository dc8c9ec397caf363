"""shine_exp: reproduces SHINE (Ramzi et al., ICLR 2022) and the methods it is compared with."""

__version__ = "0.1.0"
