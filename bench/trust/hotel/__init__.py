"""A hotel's prices, booking by booking (Antonio, de Almeida, Nunes 2019): what a price is worth knowing from."""
