"""Operations whose stock formulation is slow or missing on one of the back ends."""
